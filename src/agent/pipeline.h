// The pipeline behind a provider: events in, spans out. Process events go to discovery, connection
// events through conntrack, reassembly and protocols to the traces room. One thread.
#pragma once

#include <functional>

#include "config/config.h"
#include "conntrack/tracker.h"
#include "discovery/process_table.h"
#include "hook/provider.h"
#include "metrics/registry.h"
#include "traces/processor.h"

namespace olly::agent {

struct PipelineOptions {
  const config::Config& config;
  discovery::ProcessTableOptions processes;
  Nanos unix_offset = 0;
};

class Pipeline final : public EventSink {
 public:
  // `advanced` is called at the end of each poll with the event time reached.
  Pipeline(const PipelineOptions& options, Provider& provider, SpanSink& spans,
           MetricRegistry& metrics, std::function<void(Nanos)> advanced);

  void on_process(const ProcessEvent& event) noexcept override;
  void on_connect(const ConnectEvent& event) noexcept override;
  void on_open(const OpenEvent& event) noexcept override;
  void on_io(const IoEvent& event) noexcept override;
  void on_close(const CloseEvent& event) noexcept override;
  void on_tls(const TlsEvent& event) noexcept override;
  void on_inject(const InjectEvent& event) noexcept override;
  void on_loss(const LossEvent& event) noexcept override;
  void on_advance(Nanos now) noexcept override;

  // Everything that is open ends now, marked incomplete, and leaves.
  void finish(Nanos now) noexcept;

 private:
  Provider& provider_;
  discovery::ProcessTable processes_;
  Processor processor_;
  conntrack::Tracker tracker_;
  std::function<void(Nanos)> advanced_;
};

}  // namespace olly::agent
