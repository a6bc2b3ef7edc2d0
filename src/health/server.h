// The health server: GET /health, /ready and /metrics (Prometheus text exposition format 0.0.4) over
// HTTP/1.1. One thread of its own; connections are served one after the other, each bounded in
// time and size, because the only callers are a prober and a scraper.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "base/error.h"
#include "base/fd.h"
#include "metrics/registry.h"

namespace olly::health {

class Server {
 public:
  explicit Server(MetricRegistry& registry) : registry_(registry) {}
  ~Server() { stop(); }

  // `address` is host:port. An error (a port in use, say) leaves the server off.
  Result<void> start(const std::string& address);
  void stop() noexcept;
  // Whether /ready says 200. Any thread.
  void set_ready(bool ready) noexcept { ready_.store(ready, std::memory_order_relaxed); }

 private:
  void serve(std::stop_token stop);
  void answer(int connection);

  MetricRegistry& registry_;
  std::atomic<bool> ready_{false};
  UniqueFd listener_;
  std::jthread thread_;
};

// The text of /metrics.
std::string prometheus_text(MetricRegistry& registry);

}  // namespace olly::health
