// One destination with its bounded queue and its thread. A destination that is slow or gone costs
// the others and the pipeline nothing: push never blocks.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "base/error.h"
#include "base/fd.h"
#include "export/batch.h"

namespace olly {

using SteadyClock = std::chrono::steady_clock;

// A flag that poll() can wait for. Set once, from any thread.
class Event {
 public:
  Event();
  void set() noexcept;
  bool is_set() const noexcept { return set_.load(std::memory_order_acquire); }
  int fd() const noexcept { return fd_.get(); }
  // False when the time ran out first.
  bool wait_for(std::chrono::milliseconds timeout) const noexcept;

 private:
  UniqueFd fd_;
  std::atomic<bool> set_{false};
};

// How a destination is told to end: `closing` = send what is left, do not wait long for a
// destination that is down; `abort` = return from whatever it is doing now.
struct StopSignals {
  Event closing;
  Event abort;
};

// Counters of one exporter, present from the start at 0. Units: spans, except where said.
struct ExportCounters {
  ExportCounters(MetricRegistry& registry, std::string_view exporter);
  Counter& exported;         // olly_exported_spans_total{exporter}
  Counter& rejected;         // olly_export_rejected_total{exporter}: refused one by one (partial success)
  Counter& requests_ok;      // olly_export_requests_total{exporter,result}: requests, every attempt
  Counter& requests_retry;
  Counter& requests_failed;
  Counter& lost_points;      // olly_export_lost_points_total{exporter}: metric data points
  Gauge& queue_bytes;        // olly_export_queue_bytes{exporter}
  // olly_drops_total{cause}, shared by all exporters.
  Counter& drop_queue_full;
  Counter& drop_refused;     // export_refused: an error that is not retried
  Counter& drop_rejected;    // export_rejected: partial success
  Counter& drop_timeout;     // export_timeout: retried for too long
  Counter& drop_shutdown;    // export_shutdown: not sent when time was up
  Counter& drop_write;       // export_write: a file or stdout did not take it

  void lost(const ExportItem& item, Counter& cause) noexcept {
    cause.add_shared(item.span_count());
    lost_points.add_shared(item.point_count());
  }
};

class Destination {
 public:
  virtual ~Destination() = default;
  // On the destination's own thread. Blocks until every span of the item is exported, rejected or
  // counted lost. Returns promptly once stop.abort is set.
  virtual void deliver(const ExportItem& item, const StopSignals& stop) = 0;
  // Called at least every 200 ms, with nothing else going on; `now` is monotonic.
  virtual void idle(Nanos now) { static_cast<void>(now); }
  // After the last deliver.
  virtual void finish() {}
};

class DestinationQueue {
 public:
  static constexpr std::size_t kMaxBatches = 10'000;

  DestinationQueue(std::string name, std::unique_ptr<Destination> destination,
                   ExportCounters counters, std::size_t max_bytes);
  ~DestinationQueue();

  void start();
  // A full queue drops the newest, which is this one: what is queued has its memory already and its
  // order; to drop the oldest would free a batch on the pipeline thread and, while the destination
  // is down, replace the beginning of the trouble by its end.
  void push(const ExportItem& item) noexcept;
  // No more pushes; lets the thread drain until `deadline`, then aborts it and counts the rest.
  void close() noexcept;
  void join(SteadyClock::time_point deadline) noexcept;
  const std::string& name() const noexcept { return name_; }

 private:
  void run();
  void drop_rest() noexcept;

  std::string name_;
  std::unique_ptr<Destination> destination_;
  ExportCounters counters_;
  const std::size_t max_bytes_;
  StopSignals stop_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<ExportItem> items_;
  std::size_t bytes_ = 0;  // queued and in delivery
  bool closed_ = false;
  bool done_ = false;
  std::jthread thread_;
};

// Says something at once, then at most once a minute, with how often it was not said. One thread.
class CalmWarning {
 public:
  void say(std::string_view message);
  void recovered(std::string_view message);

 private:
  bool active_ = false;
  std::uint64_t silent_ = 0;
  SteadyClock::time_point last_{};
};

}  // namespace olly
