// The whole agent: builds every room from the configuration, starts and stops them in order.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "agent/control.h"
#include "base/error.h"
#include "config/config.h"
#include "export/exporters.h"
#include "health/server.h"
#include "hook/ebpf/ebpf_provider.h"
#include "hook/provider.h"
#include "hook/socket/socket_provider.h"
#include "metrics/registry.h"

namespace olly::agent {

struct AgentOptions {
  config::Config config;
  std::vector<std::uint32_t> roots;  // `olly run`: observe only these processes and what they start
  bool health = true;                // else no port is opened whatever the configuration says
  // `olly run`: where the program would report if it is given libolly.so; known to it alone. Empty:
  // it cannot be, and only the kernel can observe it.
  std::string run_socket;
};

class Agent {
 public:
  explicit Agent(AgentOptions options);
  ~Agent();

  // Attaches and starts the threads. On error nothing runs. Errors: privilege, unsupported (no
  // provider), io (an exporter's file).
  Result<void> start();
  // Detaches, flushes within 5 s, joins. Idempotent.
  void stop();
  MetricRegistry& metrics() noexcept { return registry_; }
  // "ebpf", "socket", "stub"; once start() has succeeded.
  std::string_view provider() const noexcept { return provider_->name(); }

 private:
  Result<std::unique_ptr<Provider>> choose_provider();
  Result<std::unique_ptr<EbpfProvider>> start_ebpf();
  std::unique_ptr<Provider> with_library(std::unique_ptr<EbpfProvider> ebpf);
  SocketOptions socket_options();
  // `olly run` is a demand.
  bool on_at_start() const noexcept {
    return !options_.config.hook.on_demand || !options_.roots.empty();
  }
  Result<std::unique_ptr<Provider>> start_socket();
  void run_pipeline(std::stop_token stop);
  void apply_capture(EventSink& pipeline);
  std::string answer(std::string_view word);
  void send_metrics();

  AgentOptions options_;
  MetricRegistry registry_;
  ResourcePtr resource_;
  Nanos started_unix_ = 0;
  std::unique_ptr<Provider> provider_;
  std::unique_ptr<Exporters> exporters_;
  health::Server health_;
  // hook.on_demand: what was asked for, and what the pipeline thread has made of it.
  struct Demand {
    std::mutex mutex;
    std::condition_variable applied;
    bool wanted = true;
    bool capturing = true;
    std::size_t programs = 0;
  };
  Demand demand_;
  Nanos stopped_ = 0;  // pipeline thread: when capture went off
  ControlServer control_;
  std::jthread pipeline_;
};

// Resource of the agent's own telemetry.
ResourcePtr agent_resource(const config::Config& config);

}  // namespace olly::agent
