#include "export/destination.h"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>

#include <cerrno>
#include <cstring>

#include "base/log.h"

namespace olly {
namespace {

using namespace std::chrono_literals;

constexpr auto kTick = 250ms;
constexpr const char* kCauseNames[] = {"queue_full",      "no_memory",      "export_refused",
                                       "export_rejected", "export_timeout", "export_too_large",
                                       "export_shutdown", "export_write"};
static_assert(std::size(kCauseNames) == ExportCounters::kCauses);

Counter& requests(MetricRegistry& registry, std::string_view exporter, const char* result) {
  return registry.counter("olly_export_requests_total",
                          "Export requests by result; every attempt counts",
                          {{"exporter", std::string(exporter)}, {"result", result}});
}

}  // namespace

ExportCounters::ExportCounters(MetricRegistry& registry, std::string_view exporter)
    : requests_ok(requests(registry, exporter, "ok")),
      requests_retry(requests(registry, exporter, "retry")),
      requests_failed(requests(registry, exporter, "failed")),
      queue_bytes(registry.gauge("olly_export_queue_bytes",
                                 "Telemetry that waits for a destination or is being sent",
                                 {{"exporter", std::string(exporter)}}, "By")),
      exported_spans_(registry.counter("olly_exported_spans_total",
                                       "Spans that a destination has taken",
                                       {{"exporter", std::string(exporter)}})),
      exported_points_(registry.counter("olly_exported_points_total",
                                        "Points of the agent's own metrics that a destination took",
                                        {{"exporter", std::string(exporter)}})) {
  const std::string name(exporter);
  for (std::size_t i = 0; i < kCauses; ++i) {
    drops_[i] = &registry.counter("olly_drops_total", "What was lost, by cause",
                                  {{"cause", kCauseNames[i]}});
    const auto dropped = [&](const char* signal) {
      return &registry.counter("olly_export_dropped_total",
                               "What an exporter did not get to its destination",
                               {{"exporter", name}, {"signal", signal}, {"cause", kCauseNames[i]}});
    };
    dropped_spans_[i] = dropped("spans");
    dropped_points_[i] = dropped("points");
  }
}

void ExportCounters::exported(std::size_t spans, std::size_t points) noexcept {
  exported_spans_.add_shared(spans);
  exported_points_.add_shared(points);
}

void ExportCounters::dropped(std::size_t spans, std::size_t points, DropCause cause) noexcept {
  const auto i = static_cast<std::size_t>(cause);
  drops_[i]->add_shared(spans);
  dropped_spans_[i]->add_shared(spans);
  dropped_points_[i]->add_shared(points);
}

Destination::Destination(std::unique_ptr<Writer> writer, std::shared_ptr<ExportCounters> counters,
                         std::uint64_t queue_bytes)
    : writer_(std::move(writer)), counters_(std::move(counters)), limit_(queue_bytes) {}

Result<void> Destination::start() {
  if (auto done = writer_->open(); !done) return done;
  thread_ = std::jthread([this] { run(); });
  return {};
}

void Destination::add_bytes(std::int64_t bytes) noexcept {
  bytes_ += static_cast<std::uint64_t>(bytes);
  counters_->queue_bytes.add(bytes);
}

void Destination::push(const ExportItem& item) noexcept {
  if (!writer_->wants(item)) return;
  const std::uint64_t size = item.bytes();
  DropCause cause = DropCause::queue_full;
  try {
    const std::lock_guard lock(mutex_);
    if (closed_) {
      cause = DropCause::export_shutdown;
    } else if (items_.empty() || (bytes_ + size <= limit_ && items_.size() < kMaxItems)) {
      items_.push_back(item);
      add_bytes(static_cast<std::int64_t>(size));
      changed_.notify_all();
      return;
    }
  } catch (const std::bad_alloc&) {
    cause = DropCause::no_memory;
  }
  counters_->dropped(item, cause);
}

void Destination::deliver(const ExportItem& item) noexcept {
  try {
    writer_->deliver(item, stop_);
  } catch (const std::exception& e) {
    // Out of memory while encoding, in practice. Parts of the item may have gone out already and
    // count twice.
    counters_->dropped(item, DropCause::no_memory);
    counters_->requests_failed.add_shared();
  }
}

void Destination::tick(bool last) noexcept {
  try {
    writer_->tick(stop_, last);
  } catch (const std::exception&) {
    counters_->requests_failed.add_shared();
  }
}

void Destination::run() noexcept {
  // A reader that closes its end of a pipe answers with EPIPE, not with a signal: for this thread
  // alone, so that no child inherits a changed disposition.
  sigset_t pipe_signal;
  sigemptyset(&pipe_signal);
  sigaddset(&pipe_signal, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe_signal, nullptr);
  std::unique_lock lock(mutex_);
  while (!stop_.abort.is_set()) {
    changed_.wait_for(lock, kTick, [this] { return closed_ || !items_.empty(); });
    if (items_.empty() && closed_) break;
    std::int64_t size = 0;
    if (!items_.empty()) {
      ExportItem item = std::move(items_.front());
      items_.pop_front();
      size = static_cast<std::int64_t>(item.bytes());
      lock.unlock();
      deliver(item);
    } else {
      lock.unlock();
    }
    tick(false);
    lock.lock();
    add_bytes(-size);
  }
  lock.unlock();
  tick(true);
  lock.lock();
  done_ = true;
  changed_.notify_all();
}

void Destination::close() noexcept {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  stop_.closing.set();
  changed_.notify_all();
}

void Destination::stop(Deadline deadline) noexcept {
  close();
  if (thread_.joinable()) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait_until(lock, deadline, [this] { return done_; });
    }
    stop_.abort.set();
    thread_.join();
  }
  const std::lock_guard lock(mutex_);
  for (const ExportItem& item : items_) counters_->dropped(item, DropCause::export_shutdown);
  items_.clear();
  add_bytes(-static_cast<std::int64_t>(bytes_));
}

void CalmWarning::say(std::string_view message) {
  const auto now = SteadyClock::now();
  if (active_ && now - last_ < 1min) {
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

void account_write(ExportCounters& counters, CalmWarning& warning, std::string_view exporter,
                   std::size_t spans, std::size_t points, int error) {
  if (error == 0) {
    counters.requests_ok.add_shared();
    counters.exported(spans, points);
    warning.recovered(fmt::format("exporter {}: it takes telemetry again", exporter));
    return;
  }
  const bool stopped = error == ECANCELED;
  if (!stopped) {
    warning.say(fmt::format("exporter {}: cannot write: {}; telemetry is lost and counted",
                            exporter, std::strerror(error)));
  }
  counters.requests_failed.add_shared();
  counters.dropped(spans, points, stopped ? DropCause::export_shutdown : DropCause::export_write);
}

}  // namespace olly
