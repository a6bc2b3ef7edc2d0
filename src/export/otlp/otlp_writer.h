// The OTLP destination: encodes, splits below 4 MiB, compresses, sends, tries again.
#pragma once

#include <random>
#include <vector>

#include "export/buffer.h"
#include "export/destination.h"
#include "export/otlp/compress.h"
#include "export/otlp/transport.h"

namespace olly::otlp {

// Back-off doubles from `first` to `most`, each wait drawn between half and all of it; a batch is
// given up `total` after its first try.
struct RetryPolicy {
  milliseconds first{1000};
  milliseconds most{15000};
  milliseconds total{std::chrono::minutes(5)};
};

class OtlpWriter final : public Writer {
 public:
  // An empty endpoint.host: that signal goes elsewhere. Where both are set, same_connection().
  OtlpWriter(OtlpTarget traces, OtlpTarget metrics, std::shared_ptr<ExportCounters> counters,
             RetryPolicy policy = {});
  std::string_view name() const noexcept override { return "otlp"; }
  Result<void> open() override;
  bool wants(const ExportItem& item) const noexcept override;
  void deliver(const ExportItem& item, const StopSignals& stop) override;
  void tick(const StopSignals&, bool last) override {
    if (!last) transport_->idle();
  }

 private:
  enum class Fate { exported, too_large, dropped };
  struct Sent {
    Fate fate;
    std::uint64_t rejected = 0;
    DropCause cause = DropCause::export_refused;
  };
  void deliver_spans(const SpanBatch& batch, std::span<const std::uint32_t> spans,
                     const StopSignals& stop);
  void account(const Sent& sent, std::size_t spans, std::size_t points);
  Sent send(Signal signal, const StopSignals& stop);
  // What to do after an answer that allows another try. False: no more tries.
  bool back_off(const Answer& answer, Deadline give_up, const StopSignals& stop, Sent& sent);

  OtlpTarget traces_;
  OtlpTarget metrics_;
  std::shared_ptr<ExportCounters> counters_;
  RetryPolicy policy_;
  config::Compression compression_;
  std::unique_ptr<Transport> transport_;
  Compressor compressor_;
  std::vector<std::uint32_t> order_;
  ByteBuffer body_;
  ByteBuffer compressed_;
  std::minstd_rand random_;
  int failures_ = 0;       // in a row
  int closing_tries_ = 0;  // since the end was announced
  int too_large_in_a_row_ = 0;
  CalmWarning warning_;
};

}  // namespace olly::otlp
