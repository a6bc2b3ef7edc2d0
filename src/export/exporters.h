// All destinations of the configuration behind one sink.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "base/error.h"
#include "config/config.h"
#include "export/batch.h"
#include "export/destination.h"

namespace olly {

class Exporters {
 public:
  // What the flush at the end may take, of the 5 s that the whole agent has.
  static constexpr std::chrono::milliseconds kStopBudget{3500};

  Exporters(const config::Exporters& config, MetricRegistry& metrics);
  ~Exporters() { stop(); }

  // Errors: a destination that cannot be opened at all: a file's directory is missing, a
  // certificate cannot be read, an endpoint is none. One that does not answer now is no error.
  Result<void> start();
  SpanSink& spans() noexcept { return batcher_; }
  // Pipeline thread: lets a batch leave when it is old enough.
  void advance(Nanos now) noexcept { batcher_.advance(now); }
  void metrics(std::shared_ptr<const MetricBatch> batch) noexcept;
  // After the pipeline has ended: the last batch leaves, queues are written, within 5 s.
  // Idempotent.
  void stop();

 private:
  void deliver(const ExportItem& item) noexcept;
  Result<void> add_otlp(const config::OtlpExporter& otlp);
  void add(std::unique_ptr<Writer> writer, std::shared_ptr<ExportCounters> counters);

  config::Exporters config_;
  MetricRegistry& metrics_;
  std::vector<std::unique_ptr<Destination>> destinations_;
  Batcher batcher_;
};

}  // namespace olly
