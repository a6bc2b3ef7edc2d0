#include "agent/replay_run.h"

#include "conntrack/tracker.h"
#include "traces/processor.h"

namespace olly::replay {
namespace {

class Keeper final : public SpanSink {
 public:
  Keeper(std::vector<KeptSpan>& spans, SpanSink* also) : spans_(spans), also_(also) {}
  void emit(const Span& span) noexcept override {
    spans_.push_back(keep(span, kStartUnix));
    if (also_) also_->emit(span);
  }

 private:
  std::vector<KeptSpan>& spans_;
  SpanSink* also_;
};

class Pipeline final : public EventSink {
 public:
  Pipeline(conntrack::Tracker& tracker, Processor& processor)
      : tracker_(tracker), processor_(processor) {}
  void on_process(const ProcessEvent& e) noexcept override {
    if (e.kind == ProcessEvent::Kind::exit) tracker_.on_process_exit(e.pid, e.time);
  }
  void on_connect(const ConnectEvent& e) noexcept override { tracker_.on_connect(e); }
  void on_open(const OpenEvent& e) noexcept override { tracker_.on_open(e); }
  void on_io(const IoEvent& e) noexcept override { tracker_.on_io(e); }
  void on_close(const CloseEvent& e) noexcept override { tracker_.on_close(e); }
  void on_tls(const TlsEvent& e) noexcept override { tracker_.on_tls(e); }
  void on_loss(const LossEvent& e) noexcept override { tracker_.on_loss(e); }
  void on_advance(Nanos now) noexcept override {
    tracker_.on_advance(now);
    processor_.advance(now);
  }

 private:
  conntrack::Tracker& tracker_;
  Processor& processor_;
};

std::optional<std::uint64_t> count(const RunResult& r, std::string_view fate,
                                   std::optional<Direction> direction) {
  using reassembly::Fate;
  static constexpr std::pair<std::string_view, Fate> kFates[] = {{"parsed", Fate::parsed},
                                                                 {"skipped", Fate::skipped},
                                                                 {"gap", Fate::gap},
                                                                 {"evicted", Fate::evicted},
                                                                 {"unparsed", Fate::unparsed}};
  std::uint64_t sum = 0;
  for (const Direction d : {Direction::recv, Direction::send}) {
    if (direction && *direction != d) continue;
    const reassembly::ByteLedger& l = r.bytes[static_cast<std::size_t>(d)];
    if (fate == "seen") sum += l.seen;
    if (fate == "pending") sum += l.pending();
    for (const auto& [name, value] : kFates) {
      if (fate == name) sum += l.of(value);
    }
  }
  return sum;
}

}  // namespace

RunResult run_replay(const Recording& recording, const RunOptions& options) {
  RunResult r;
  r.metrics = std::make_unique<MetricRegistry>();
  ReplayProvider provider(recording, options.provider);
  Keeper keeper(r.spans, options.also);
  ProcessorOptions traces;
  traces.link_wait = options.link_wait;
  traces.unix_offset = kStartUnix - kStart;
  Processor processor(traces, keeper, *r.metrics);
  conntrack::TrackerOptions connections;
  connections.rest_at_once = options.rest_at_once;
  conntrack::Tracker tracker(connections, provider, provider, processor, *r.metrics);
  Pipeline pipeline(tracker, processor);
  while (provider.poll(pipeline, 0)) {
  }
  // What was still pending when the recording ended counts as pending.
  for (const Direction d : {Direction::recv, Direction::send}) {
    r.bytes[static_cast<std::size_t>(d)] = tracker.bytes(d);
  }
  r.bytes_conserved = tracker.check_conservation();
  tracker.finish(provider.now());
  processor.flush(provider.now());

  sort_spans(r.spans);
  Outcome outcome;
  outcome.spans = r.spans;
  outcome.metrics = r.metrics.get();
  outcome.bytes = [&r](std::string_view fate, std::optional<Direction> direction,
                       std::string_view connection) -> std::optional<std::uint64_t> {
    if (!connection.empty()) return std::nullopt;
    return count(r, fate, direction);
  };
  r.difference = check(recording, outcome);
  return r;
}

}  // namespace olly::replay
