#include "export/otlp/otlp_writer.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "export/otlp/constants.h"
#include "export/otlp/encoder.h"

namespace olly::otlp {
namespace {

using namespace std::chrono_literals;

// Halving one batch of 2048 down to single spans takes 11 refusals in a row; a server that refuses
// more than this takes nothing, and is not asked thousands of times.
constexpr int kMaxTooLarge = 16;
// At the end a destination that is down gets so many more tries, this far apart.
constexpr int kClosingTries = 3;
constexpr auto kClosingWait = 200ms;

}  // namespace

OtlpWriter::OtlpWriter(OtlpTarget traces, OtlpTarget metrics,
                       std::shared_ptr<ExportCounters> counters, RetryPolicy policy)
    : traces_(std::move(traces)),
      metrics_(std::move(metrics)),
      counters_(std::move(counters)),
      policy_(policy),
      random_(std::random_device{}()) {
  const OtlpTarget& target = traces_.endpoint.host.empty() ? metrics_ : traces_;
  compression_ = target.compression;
  transport_ = target.protocol == config::OtlpProtocol::grpc ? make_grpc_transport(target)
                                                             : make_http_transport(target);
}

Result<void> OtlpWriter::open() {
  const OtlpTarget& target = traces_.endpoint.host.empty() ? metrics_ : traces_;
  if (!target.endpoint.tls) return {};
  return net::check_tls(target.connection().options);
}

bool OtlpWriter::wants(const ExportItem& item) const noexcept {
  return !(item.spans ? traces_ : metrics_).endpoint.host.empty();
}

void OtlpWriter::deliver(const ExportItem& item, const StopSignals& stop) {
  if (item.spans) {
    too_large_in_a_row_ = 0;
    for_each_request(*item.spans, order_, [&](std::span<const std::uint32_t> spans) {
      deliver_spans(*item.spans, spans, stop);
    });
  } else if (item.metrics) {
    body_.clear();
    encode_protobuf(*item.metrics, body_);
    Sent sent = send(Signal::metrics, stop);
    account(sent, 0, item.point_count());
  }
  body_.shrink(kKeepBuffer);
  compressed_.shrink(kKeepBuffer);
}

void OtlpWriter::deliver_spans(const SpanBatch& batch, std::span<const std::uint32_t> spans,
                               const StopSignals& stop) {
  body_.clear();
  encode_protobuf(batch, spans, body_);
  const Sent sent = send(Signal::traces, stop);
  if (sent.fate == Fate::too_large) ++too_large_in_a_row_;
  if (sent.fate == Fate::exported) too_large_in_a_row_ = 0;
  if (sent.fate == Fate::too_large && spans.size() > 1 && too_large_in_a_row_ <= kMaxTooLarge) {
    deliver_spans(batch, spans.first(spans.size() / 2), stop);
    deliver_spans(batch, spans.subspan(spans.size() / 2), stop);
    return;
  }
  account(sent, spans.size(), 0);
}

void OtlpWriter::account(const Sent& sent, std::size_t spans, std::size_t points) {
  if (sent.fate != Fate::exported) {
    counters_->dropped(spans, points,
                       sent.fate == Fate::too_large ? DropCause::export_too_large : sent.cause);
    return;
  }
  const auto rejected =
      static_cast<std::size_t>(std::min<std::uint64_t>(sent.rejected, spans + points));
  const std::size_t rejected_spans = std::min(rejected, spans);
  const std::size_t rejected_points = rejected - rejected_spans;
  counters_->exported(spans - rejected_spans, points - rejected_points);
  counters_->dropped(rejected_spans, rejected_points, DropCause::export_rejected);
}

OtlpWriter::Sent OtlpWriter::send(Signal signal, const StopSignals& stop) {
  const OtlpTarget& target = signal == Signal::traces ? traces_ : metrics_;
  const Deadline give_up = SteadyClock::now() + policy_.total;
  Sent sent{Fate::dropped, 0, DropCause::export_shutdown};
  std::string_view body = compressor_.compress(compression_, body_.text(), compressed_);
  while (!stop.abort.is_set() && closing_tries_ < kClosingTries) {
    const Answer answer = transport_->send({signal, target.endpoint.path, body, compression_},
                                           SteadyClock::now() + target.timeout, stop.abort);
    switch (answer.kind) {
      case Answer::Kind::accepted:
        failures_ = 0;
        counters_->requests_ok.add_shared();
        if (answer.rejected != 0 || !answer.message.empty()) {
          warning_.say(fmt::format("exporter otlp: {} of a request were refused: {}",
                                   answer.rejected, answer.message));
        } else {
          warning_.recovered("exporter otlp: the destination takes telemetry again");
        }
        return {Fate::exported, answer.rejected, {}};
      case Answer::Kind::stopped:
        counters_->requests_failed.add_shared();
        return sent;
      case Answer::Kind::encoding:
        if (compression_ == config::Compression::zstd) {
          log::warn("exporter otlp: the destination does not take zstd: gzip from here on");
          compression_ = config::Compression::gzip;
          body = compressor_.compress(compression_, body_.text(), compressed_);
          counters_->requests_retry.add_shared();
          continue;
        }
        [[fallthrough]];
      case Answer::Kind::refused:
        failures_ = 0;
        counters_->requests_failed.add_shared();
        warning_.say(fmt::format("exporter otlp: {} refused a request, what it held is lost: {}",
                                 target.endpoint.authority, answer.message));
        return {Fate::dropped, 0, DropCause::export_refused};
      case Answer::Kind::too_large:
        counters_->requests_failed.add_shared();
        return {Fate::too_large, 0, {}};
      case Answer::Kind::retry:
        warning_.say(fmt::format("exporter otlp: {}: {}; it is tried again, telemetry waits",
                                 target.endpoint.authority, answer.message));
        if (!back_off(answer, give_up, stop, sent)) {
          counters_->requests_failed.add_shared();
          return sent;
        }
        counters_->requests_retry.add_shared();
    }
  }
  return sent;
}

bool OtlpWriter::back_off(const Answer& answer, Deadline give_up, const StopSignals& stop,
                          Sent& sent) {
  failures_ = std::min(failures_ + 1, 20);
  const auto now = SteadyClock::now();
  if (now >= give_up) {
    sent.cause = DropCause::export_timeout;
    return false;
  }
  if (!stop.closing.is_set()) {
    const milliseconds most = std::min(policy_.most, policy_.first * (1 << (failures_ - 1)));
    const auto half = most.count() / 2;
    milliseconds wait(half + std::uniform_int_distribution<std::int64_t>(0, half)(random_));
    if (answer.wait) wait = std::max(wait, *answer.wait);
    if (!stop.closing.wait_until(now + wait)) return true;
  }
  if (answer.wait && *answer.wait > kClosingWait) return false;
  return ++closing_tries_ < kClosingTries &&
         !stop.abort.wait_until(SteadyClock::now() + kClosingWait);
}

}  // namespace olly::otlp
