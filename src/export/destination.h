// Where batches go: one thread and one bounded queue per destination, so that a slow one delays
// nobody else and nothing ever blocks the pipeline.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string_view>
#include <thread>

#include "base/error.h"
#include "export/batch.h"
#include "metrics/registry.h"

namespace olly {

// What a destination does with one item, on its own thread.
class Writer {
 public:
  virtual ~Writer() = default;
  virtual std::string_view name() const noexcept = 0;
  virtual Result<void> open() = 0;
  // False: the item is lost (the writer has said why).
  virtual bool write(const ExportItem& item) = 0;
  // Called about twice a second, and with `last` before the end.
  virtual void tick(bool last) = 0;
};

class Destination {
 public:
  Destination(std::unique_ptr<Writer> writer, std::uint64_t queue_bytes, MetricRegistry& metrics);
  ~Destination() { stop(); }
  Result<void> start();
  // Never blocks. Full: the newest item is dropped, because what waits is older and was promised first.
  void push(ExportItem item) noexcept;
  // Writes what is queued for at most 5 s; the rest is counted as lost.
  void stop();

 private:
  void run(std::stop_token stop);

  static constexpr std::size_t kMaxItems = 10'000;
  std::unique_ptr<Writer> writer_;
  std::uint64_t limit_;
  Counter& exported_;
  Counter& requests_ok_;
  Counter& requests_failed_;
  Counter& dropped_full_;
  Counter& dropped_failed_;
  Gauge& queued_;
  std::mutex mutex_;
  std::condition_variable_any filled_;
  std::deque<ExportItem> items_;
  std::uint64_t bytes_ = 0;
  std::jthread thread_;
};

}  // namespace olly
