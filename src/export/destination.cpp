#include "export/destination.h"

#include <chrono>

namespace olly {
namespace {

constexpr auto kTick = std::chrono::milliseconds(500);
constexpr auto kFlush = std::chrono::seconds(4);  // of the 5 s that a shutdown may take

}  // namespace

Destination::Destination(std::unique_ptr<Writer> writer, std::uint64_t queue_bytes,
                         MetricRegistry& metrics)
    : writer_(std::move(writer)),
      limit_(queue_bytes),
      exported_(metrics.counter("olly_exported_spans_total", "Spans that a destination has taken",
                                {{"exporter", std::string(writer_->name())}})),
      requests_ok_(metrics.counter("olly_export_requests_total", "Export requests by result",
                                   {{"exporter", std::string(writer_->name())}, {"result", "ok"}})),
      requests_failed_(
          metrics.counter("olly_export_requests_total", "Export requests by result",
                          {{"exporter", std::string(writer_->name())}, {"result", "failed"}})),
      dropped_full_(metrics.counter("olly_drops_total", "Losses by cause", {{"cause", "queue_full"}})),
      dropped_failed_(
          metrics.counter("olly_drops_total", "Losses by cause", {{"cause", "export_failed"}})),
      queued_(metrics.gauge("olly_export_queue_bytes", "Telemetry that waits for a destination",
                            {{"exporter", std::string(writer_->name())}}, "By")) {}

Result<void> Destination::start() {
  if (auto done = writer_->open(); !done) return done;
  thread_ = std::jthread([this](std::stop_token stop) { run(stop); });
  return {};
}

void Destination::push(ExportItem item) noexcept {
  const std::uint64_t size = item.bytes();
  const std::size_t count = item.span_count() + item.point_count();
  {
    const std::lock_guard lock(mutex_);
    if (bytes_ + size > limit_ || items_.size() >= kMaxItems) {
      dropped_full_.add_shared(count);
      return;
    }
    bytes_ += size;
    items_.push_back(std::move(item));
    queued_.set(static_cast<std::int64_t>(bytes_));
  }
  filled_.notify_one();
}

void Destination::run(std::stop_token stop) {
  std::chrono::steady_clock::time_point deadline{};
  for (;;) {
    ExportItem item;
    bool have = false;
    {
      std::unique_lock lock(mutex_);
      filled_.wait_for(lock, stop, kTick, [this] { return !items_.empty(); });
      if (stop.stop_requested() && deadline == std::chrono::steady_clock::time_point{}) {
        deadline = std::chrono::steady_clock::now() + kFlush;
      }
      if (!items_.empty()) {
        item = std::move(items_.front());
        items_.pop_front();
        bytes_ -= item.bytes();
        queued_.set(static_cast<std::int64_t>(bytes_));
        have = true;
      }
    }
    if (have) {
      const bool late = stop.stop_requested() && std::chrono::steady_clock::now() > deadline;
      if (!late && writer_->write(item)) {
        exported_.add_shared(item.span_count());
        requests_ok_.add_shared();
      } else {
        dropped_failed_.add_shared(item.span_count() + item.point_count());
        requests_failed_.add_shared();
      }
    }
    writer_->tick(false);
    if (!have && stop.stop_requested()) break;
  }
  writer_->tick(true);
}

void Destination::stop() {
  if (!thread_.joinable()) return;
  thread_.request_stop();
  filled_.notify_all();
  thread_.join();
}

}  // namespace olly
