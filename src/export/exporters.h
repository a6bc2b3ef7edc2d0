// All destinations of the configuration behind one sink.
#pragma once

#include <memory>
#include <vector>

#include "base/error.h"
#include "config/config.h"
#include "export/batch.h"
#include "export/destination.h"

namespace olly {

class Exporters {
 public:
  Exporters(const config::Exporters& config, MetricRegistry& metrics);
  ~Exporters() { stop(); }

  // Errors: a destination that cannot be opened at all (a file's directory is missing), or that this
  // version does not have.
  Result<void> start();
  SpanSink& spans() noexcept { return batcher_; }
  // Pipeline thread: lets a batch leave when it is old enough.
  void advance(Nanos now) noexcept { batcher_.advance(now); }
  void metrics(std::shared_ptr<const MetricBatch> batch) noexcept;
  // After the pipeline has ended: the last batch leaves, queues are written, within 5 s. Idempotent.
  void stop();

 private:
  void deliver(const ExportItem& item) noexcept;

  config::Exporters config_;
  std::vector<std::unique_ptr<Destination>> destinations_;
  Batcher batcher_;
};

}  // namespace olly
