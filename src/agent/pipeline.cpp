#include "agent/pipeline.h"

#include "protocol/names.h"

namespace olly::agent {
namespace {

ProcessorOptions processor_options(const PipelineOptions& options) {
  ProcessorOptions out;
  out.link_wait = static_cast<Nanos>(options.config.tracing.link_wait.count()) * kMillisecond;
  out.memory = options.config.capture.memory * 2 / 5;
  out.unix_offset = options.unix_offset;
  return out;
}

conntrack::TrackerOptions tracker_options(const PipelineOptions& options) {
  conntrack::TrackerOptions out;
  out.memory = options.config.capture.memory * 2 / 5;
  for (const ProtocolInfo& protocol : protocols()) {
    const auto chosen = options.config.tracing.protocols.find(std::string(protocol.name));
    const bool enabled = chosen == options.config.tracing.protocols.end() || chosen->second;
    if (!options.config.tracing.enabled || !enabled)
      out.disabled_protocols.emplace_back(protocol.name);
  }
  return out;
}

}  // namespace

Pipeline::Pipeline(const PipelineOptions& options, Provider& provider, SpanSink& spans,
                   MetricRegistry& metrics, std::function<void(Nanos)> advanced)
    : provider_(provider),
      processes_(options.processes,
                 [this](const Process& p) {
                   // Whose call it is, is found out well for socket loops, and only later.
                   provider_.set_process(
                       p.pid, {p.observed, p.goid_offset, p.runtime != Runtime::socket_loop});
                 }),
      processor_(processor_options(options), spans, metrics),
      tracker_(tracker_options(options), provider, processes_, processor_, metrics),
      advanced_(std::move(advanced)) {
  // `olly run` observes one program, which starts after this.
  if (options.processes.roots.empty()) processes_.scan();
}

void Pipeline::on_process(const ProcessEvent& event) noexcept {
  processes_.on_process(event);
  if (event.kind == ProcessEvent::Kind::exec) tracker_.on_process_change(event.pid);
  if (event.kind == ProcessEvent::Kind::exit) {
    tracker_.on_process_exit(event.pid, event.time);
  }
}

void Pipeline::on_connect(const ConnectEvent& event) noexcept { tracker_.on_connect(event); }
void Pipeline::on_open(const OpenEvent& event) noexcept { tracker_.on_open(event); }
void Pipeline::on_io(const IoEvent& event) noexcept { tracker_.on_io(event); }
void Pipeline::on_close(const CloseEvent& event) noexcept { tracker_.on_close(event); }
void Pipeline::on_tls(const TlsEvent& event) noexcept { tracker_.on_tls(event); }

void Pipeline::on_inject(const InjectEvent& event) noexcept { processor_.injected(event); }

void Pipeline::on_loss(const LossEvent& event) noexcept { tracker_.on_loss(event); }

void Pipeline::on_advance(Nanos now) noexcept {
  tracker_.on_advance(now);
  processor_.advance(now);
  if (advanced_) advanced_(now);
}

void Pipeline::finish(Nanos now) noexcept {
  tracker_.finish(now);
  processor_.flush(now);
}

}  // namespace olly::agent
