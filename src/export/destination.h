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
#include "export/stop.h"
#include "metrics/registry.h"

namespace olly {

// Why telemetry did not reach a destination.
enum class DropCause : std::uint8_t {
  queue_full,        // the destination does not keep up
  no_memory,         // an allocation failed
  export_refused,    // an error that must not be retried
  export_rejected,   // refused one by one, in a partial success
  export_timeout,    // retried for as long as it may be
  export_too_large,  // one record alone is more than the destination takes
  export_shutdown,   // not sent when the time to flush was over
  export_write,      // a file or stdout did not take it
};

// What one exporter counts; all are there from the start, at 0. Shared by the destinations of one
// exporter. Spans also count in olly_drops_total{cause}; the agent's own metrics do not, they are
// no loss of what was observed.
class ExportCounters {
 public:
  static constexpr std::size_t kCauses = 8;
  ExportCounters(MetricRegistry& registry, std::string_view exporter);

  void exported(std::size_t spans, std::size_t points) noexcept;
  void dropped(std::size_t spans, std::size_t points, DropCause cause) noexcept;
  void dropped(const ExportItem& item, DropCause cause) noexcept {
    dropped(item.span_count(), item.point_count(), cause);
  }

  Counter& requests_ok;      // every attempt counts in one of these
  Counter& requests_retry;   // failed, to be tried again
  Counter& requests_failed;  // failed for good
  Gauge& queue_bytes;

 private:
  Counter& exported_spans_;
  Counter& exported_points_;
  Counter* drops_[kCauses];  // of every exporter together
  Counter* dropped_spans_[kCauses];
  Counter* dropped_points_[kCauses];
};

// What a destination does with one item, on its own thread.
class Writer {
 public:
  virtual ~Writer() = default;
  // The exporter's name in metrics and messages.
  virtual std::string_view name() const noexcept = 0;
  // Before the thread starts. Errors are the configuration's: a destination that only does not
  // answer now is none.
  virtual Result<void> open() = 0;
  virtual bool wants(const ExportItem& item) const noexcept {
    static_cast<void>(item);
    return true;
  }
  // Until all of the item is exported or counted as dropped. Prompt once stop.abort is set.
  virtual void deliver(const ExportItem& item, const StopSignals& stop) = 0;
  // Called at least twice a second, with nothing else going on, and with `last` before the end.
  virtual void tick(const StopSignals& stop, bool last) {
    static_cast<void>(stop);
    static_cast<void>(last);
  }
};

class Destination {
 public:
  static constexpr std::size_t kMaxItems = 10'000;

  Destination(std::unique_ptr<Writer> writer, std::shared_ptr<ExportCounters> counters,
              std::uint64_t queue_bytes);
  ~Destination() { stop(SteadyClock::now()); }
  Result<void> start();
  // Never blocks on the destination. Full: the newest item is dropped, because what waits is older
  // and was promised first, and while a destination is down its queue keeps the beginning of the
  // trouble. An empty queue takes an item of any size.
  void push(const ExportItem& item) noexcept;
  // No more pushes from here on; the thread writes what is queued.
  void close() noexcept;
  // Waits until `deadline` for the thread to be through, then aborts it; the rest is counted as
  // dropped. Idempotent.
  void stop(Deadline deadline) noexcept;

 private:
  void run() noexcept;
  void deliver(const ExportItem& item) noexcept;
  void tick(bool last) noexcept;
  void add_bytes(std::int64_t bytes) noexcept;

  std::unique_ptr<Writer> writer_;
  std::shared_ptr<ExportCounters> counters_;
  const std::uint64_t limit_;
  StopSignals stop_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<ExportItem> items_;
  std::uint64_t bytes_ = 0;  // waiting and in delivery
  bool closed_ = false;
  bool done_ = false;
  std::jthread thread_;
};

// Says something at once, then at most once a minute, with how often it kept quiet. One thread.
class CalmWarning {
 public:
  void say(std::string_view message);
  // After say(): that it is over.
  void recovered(std::string_view message);

 private:
  bool active_ = false;
  std::uint64_t silent_ = 0;
  Deadline last_{};
};

// After one write to a file or stdout: counts it and says what went wrong. `exporter`: its
// name, and its path if it has one. `error`: errno, 0 where all was written, ECANCELED where the
// end came first.
void account_write(ExportCounters& counters, CalmWarning& warning, std::string_view exporter,
                   std::size_t spans, std::size_t points, int error);

}  // namespace olly
