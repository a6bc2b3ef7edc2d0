// OTLP/JSON, one export request per line: the file exporter, and stdout with format json.
#pragma once

#include <string>

#include "base/fd.h"
#include "config/config.h"
#include "export/buffer.h"
#include "export/destination.h"

namespace olly {

class JsonLines final : public Writer {
 public:
  explicit JsonLines(config::FileExporter file) : file_(std::move(file)) {}
  explicit JsonLines(int fd) : fd_(fd), borrowed_(true) {}
  ~JsonLines() override {
    if (borrowed_) fd_.release();
  }
  std::string_view name() const noexcept override { return borrowed_ ? "stdout" : "file"; }
  Result<void> open() override;
  bool write(const ExportItem& item) override;
  void tick(bool) override {}

 private:
  void rotate();

  config::FileExporter file_;
  UniqueFd fd_;
  bool borrowed_ = false;
  std::uint64_t size_ = 0;
  Nanos complained_ = 0;
  ByteBuffer buffer_;
};

}  // namespace olly
