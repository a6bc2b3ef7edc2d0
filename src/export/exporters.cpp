#include "export/exporters.h"

#include "export/json_lines.h"
#include "export/otlp/otlp_writer.h"
#include "export/text_tree.h"

namespace olly {

Exporters::Exporters(const config::Exporters& config, MetricRegistry& metrics)
    : config_(config),
      metrics_(metrics),
      batcher_(
          [this](std::shared_ptr<const SpanBatch> batch) {
            deliver({std::move(batch), {}});
          },
          metrics.counter("olly_drops_total", "What was lost, by cause",
                          {{"cause", "no_memory"}})) {
  if (config_.file) {
    auto counters = std::make_shared<ExportCounters>(metrics, "file");
    add(std::make_unique<JsonLines>(*config_.file, counters), counters);
  }
  if (config_.stdout_) {
    auto counters = std::make_shared<ExportCounters>(metrics, "stdout");
    if (config_.stdout_->format == config::StdoutFormat::json) {
      add(std::make_unique<JsonLines>(config_.stdout_->fd, counters), counters);
    } else {
      add(std::make_unique<TextTree>(config_.stdout_->fd, counters), counters);
    }
  }
}

void Exporters::add(std::unique_ptr<Writer> writer, std::shared_ptr<ExportCounters> counters) {
  destinations_.push_back(
      std::make_unique<Destination>(std::move(writer), std::move(counters), config_.queue_size));
}

Result<void> Exporters::add_otlp(const config::OtlpExporter& otlp) {
  auto traces = otlp::resolve_target(otlp, otlp::Signal::traces);
  if (!traces) return std::unexpected(traces.error());
  auto metrics = otlp::resolve_target(otlp, otlp::Signal::metrics);
  if (!metrics) return std::unexpected(metrics.error());
  auto counters = std::make_shared<ExportCounters>(metrics_, "otlp");
  if (traces->same_connection(*metrics)) {
    add(std::make_unique<otlp::OtlpWriter>(*traces, *metrics, counters), counters);
    return {};
  }
  // Two servers: one that is down must not keep the other waiting.
  if (!traces->endpoint.host.empty()) {
    add(std::make_unique<otlp::OtlpWriter>(*traces, otlp::OtlpTarget{}, counters), counters);
  }
  if (!metrics->endpoint.host.empty()) {
    add(std::make_unique<otlp::OtlpWriter>(otlp::OtlpTarget{}, *metrics, counters), counters);
  }
  return {};
}

Result<void> Exporters::start() {
  if (config_.otlp) {
    if (auto done = add_otlp(*config_.otlp); !done) return done;
  }
  for (auto& destination : destinations_) {
    if (auto done = destination->start(); !done) return done;
  }
  return {};
}

void Exporters::deliver(const ExportItem& item) noexcept {
  for (auto& destination : destinations_) destination->push(item);
}

void Exporters::metrics(std::shared_ptr<const MetricBatch> batch) noexcept {
  if (batch && !batch->metrics.empty()) deliver({{}, std::move(batch)});
}

void Exporters::stop() {
  batcher_.flush();
  const Deadline deadline = SteadyClock::now() + kStopBudget;
  for (auto& destination : destinations_) destination->close();
  for (auto& destination : destinations_) destination->stop(deadline);
}

}  // namespace olly
