#include "export/exporters.h"

#include "export/json_lines.h"
#include "export/text_tree.h"

namespace olly {

Exporters::Exporters(const config::Exporters& config, MetricRegistry& metrics)
    : config_(config),
      batcher_([this](std::shared_ptr<const SpanBatch> batch) { deliver({std::move(batch), {}}); },
               metrics.counter("olly_drops_total", "Losses by cause", {{"cause", "no_memory"}})) {
  const auto add = [&](std::unique_ptr<Writer> writer) {
    destinations_.push_back(
        std::make_unique<Destination>(std::move(writer), config_.queue_size, metrics));
  };
  if (config_.file) add(std::make_unique<JsonLines>(*config_.file));
  if (config_.stdout_) {
    if (config_.stdout_->format == config::StdoutFormat::json) {
      add(std::make_unique<JsonLines>(config_.stdout_->fd));
    } else {
      add(std::make_unique<TextTree>(config_.stdout_->fd));
    }
  }
}

Result<void> Exporters::start() {
  if (config_.otlp) {
    return fail(ErrorCode::config, "exporters.otlp is not supported yet",
                "use exporters.file or exporters.stdout");
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
  for (auto& destination : destinations_) destination->stop();
}

}  // namespace olly
