// OTLP/JSON, one export request per line: the file exporter, and stdout with format json. All
// signals go into the one file, one signal per line; a line is below 4 MiB unless one span is not.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/fd.h"
#include "config/config.h"
#include "export/buffer.h"
#include "export/destination.h"

namespace olly {

class JsonLines final : public Writer {
 public:
  // Appends to the file (created 0640). Rotates only when configured; a file that someone else
  // moved away or removed (logrotate) is made anew under its name.
  JsonLines(config::FileExporter file, std::shared_ptr<ExportCounters> counters);
  // Writes to a descriptor that is not its own.
  JsonLines(int fd, std::shared_ptr<ExportCounters> counters);
  ~JsonLines() override;
  std::string_view name() const noexcept override { return borrowed_ ? "stdout" : "file"; }
  Result<void> open() override;
  void deliver(const ExportItem& item, const StopSignals& stop) override;

 private:
  void deliver_spans(const SpanBatch& batch, std::span<const std::uint32_t> spans,
                     const StopSignals& stop);
  void write_line(std::size_t spans, std::size_t points, const StopFlag& abort);
  bool write_or_take_back(const StopFlag& abort);
  void follow_rename();
  void rotate();

  config::FileExporter file_;
  std::shared_ptr<ExportCounters> counters_;
  UniqueFd fd_;
  bool borrowed_ = false;
  bool regular_ = true;
  bool torn_ = false;  // an earlier line could be neither finished nor taken back
  std::uint64_t size_ = 0;
  std::vector<std::uint32_t> order_;
  ByteBuffer line_;
  CalmWarning warning_;
};

}  // namespace olly
