// The whole agent: builds every room from the configuration, starts and stops them in order.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

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
  Result<std::unique_ptr<Provider>> start_socket();
  void run_pipeline(std::stop_token stop);
  void send_metrics();

  AgentOptions options_;
  MetricRegistry registry_;
  ResourcePtr resource_;
  Nanos started_unix_ = 0;
  std::unique_ptr<Provider> provider_;
  std::unique_ptr<Exporters> exporters_;
  health::Server health_;
  std::jthread pipeline_;
};

// Resource of the agent's own telemetry.
ResourcePtr agent_resource(const config::Config& config);

}  // namespace olly::agent
