#include "export/queue.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"

namespace olly {
namespace {

Counter& requests(MetricRegistry& registry, std::string_view exporter, const char* result) {
  return registry.counter("olly_export_requests_total", "Export requests by result, every attempt",
                          {{"exporter", std::string(exporter)}, {"result", result}});
}

Counter& drops(MetricRegistry& registry, const char* cause) {
  return registry.counter("olly_drops_total", "What was lost, by cause", {{"cause", cause}});
}

}  // namespace

Event::Event() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

void Event::set() noexcept {
  set_.store(true, std::memory_order_release);
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t ignored = ::write(fd_.get(), &one, sizeof one);
}

bool Event::wait_for(std::chrono::milliseconds timeout) const noexcept {
  if (is_set()) return true;
  pollfd p{fd_.get(), POLLIN, 0};
  ::poll(&p, 1, static_cast<int>(timeout.count()));
  return is_set();
}

ExportCounters::ExportCounters(MetricRegistry& registry, std::string_view exporter)
    : exported(registry.counter("olly_exported_spans_total", "Spans a destination has accepted",
                                {{"exporter", std::string(exporter)}})),
      rejected(registry.counter("olly_export_rejected_total",
                                "Spans a destination refused in a partial success",
                                {{"exporter", std::string(exporter)}})),
      requests_ok(requests(registry, exporter, "ok")),
      requests_retry(requests(registry, exporter, "retry")),
      requests_failed(requests(registry, exporter, "failed")),
      lost_points(registry.counter("olly_export_lost_points_total",
                                   "Points of the agent's own metrics that were not exported",
                                   {{"exporter", std::string(exporter)}})),
      queue_bytes(registry.gauge("olly_export_queue_bytes", "Bytes waiting for a destination",
                                 {{"exporter", std::string(exporter)}}, "By")),
      drop_queue_full(drops(registry, "queue_full")),
      drop_refused(drops(registry, "export_refused")),
      drop_rejected(drops(registry, "export_rejected")),
      drop_timeout(drops(registry, "export_timeout")),
      drop_shutdown(drops(registry, "export_shutdown")),
      drop_write(drops(registry, "export_write")) {}

DestinationQueue::DestinationQueue(std::string name, std::unique_ptr<Destination> destination,
                                   ExportCounters counters, std::size_t max_bytes)
    : name_(std::move(name)),
      destination_(std::move(destination)),
      counters_(counters),
      max_bytes_(max_bytes) {}

DestinationQueue::~DestinationQueue() {
  close();
  join(SteadyClock::now());
}

void DestinationQueue::start() {
  if (!thread_.joinable()) thread_ = std::jthread([this] { run(); });
}

void DestinationQueue::push(const ExportItem& item) noexcept {
  const std::size_t size = item.bytes();
  bool accepted = false;
  try {
    const std::lock_guard lock(mutex_);
    // One batch always fits, however small the queue was configured.
    const bool room = items_.empty() || bytes_ + size <= max_bytes_;
    if (!closed_ && room && items_.size() < kMaxBatches) {
      items_.push_back(item);
      bytes_ += size;
      counters_.queue_bytes.set(static_cast<std::int64_t>(bytes_));
      accepted = true;
    }
  } catch (const std::bad_alloc&) {
  }
  if (accepted) {
    changed_.notify_one();
  } else {
    counters_.lost(item, counters_.drop_queue_full);
  }
}

void DestinationQueue::close() noexcept {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  stop_.closing.set();
  changed_.notify_all();
}

void DestinationQueue::join(SteadyClock::time_point deadline) noexcept {
  if (thread_.joinable()) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait_until(lock, deadline, [this] { return done_; });
    }
    stop_.abort.set();
    thread_.join();
  }
  drop_rest();
}

void DestinationQueue::drop_rest() noexcept {
  const std::lock_guard lock(mutex_);
  for (const ExportItem& item : items_) counters_.lost(item, counters_.drop_shutdown);
  items_.clear();
  bytes_ = 0;
  counters_.queue_bytes.set(0);
}

void DestinationQueue::run() {
  // A destination that closes its end answers with EPIPE, not with a signal that ends the agent.
  sigset_t pipe_signal;
  sigemptyset(&pipe_signal);
  sigaddset(&pipe_signal, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe_signal, nullptr);
  using namespace std::chrono_literals;
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait_for(lock, 200ms, [this] { return closed_ || !items_.empty(); });
    if (stop_.abort.is_set()) break;
    if (items_.empty()) {
      if (closed_) break;
      lock.unlock();
      destination_->idle(monotonic_now());
      lock.lock();
      continue;
    }
    ExportItem item = std::move(items_.front());
    items_.pop_front();
    const std::size_t size = item.bytes();
    lock.unlock();
    destination_->deliver(item, stop_);
    item = {};  // back to the pool before the queue says there is room
    destination_->idle(monotonic_now());
    lock.lock();
    bytes_ -= size;
    counters_.queue_bytes.set(static_cast<std::int64_t>(bytes_));
  }
  lock.unlock();
  destination_->finish();
  lock.lock();
  done_ = true;
  changed_.notify_all();
}

void CalmWarning::say(std::string_view message) {
  const auto now = SteadyClock::now();
  if (active_ && now - last_ < std::chrono::minutes(1)) {
    ++silent_;
    return;
  }
  if (silent_ != 0) {
    log::warn("{} ({} more like this since)", message, silent_);
  } else {
    log::warn("{}", message);
  }
  active_ = true;
  silent_ = 0;
  last_ = now;
}

void CalmWarning::recovered(std::string_view message) {
  if (!active_) return;
  log::info("{}", message);
  active_ = false;
  silent_ = 0;
}

}  // namespace olly
