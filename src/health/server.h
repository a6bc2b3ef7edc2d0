// The health server: GET /health, /ready and /metrics (Prometheus text exposition format 0.0.4)
// over HTTP/1.1, one request per connection. One thread of its own that never blocks on a client:
// at most kMaxClients connections at once (past that the oldest goes), each with a deadline from
// its beginning to its end and a limit on what it may send.
#pragma once

#include <atomic>
#include <string>
#include <thread>

#include "base/error.h"
#include "base/fd.h"
#include "base/time.h"
#include "metrics/registry.h"

namespace olly::health {

class Server {
 public:
  static constexpr std::size_t kMaxClients = 64;
  static constexpr std::size_t kMaxRequest = 16 * 1024;

  // `limit`: what a client may take from connect to the last byte it reads.
  explicit Server(MetricRegistry& registry, Nanos limit = 2 * kSecond)
      : registry_(registry), limit_(limit) {}
  ~Server() { stop(); }

  // `address` is host:port. An error (a port in use, say) leaves the server off.
  Result<void> start(const std::string& address);
  void stop() noexcept;
  // Whether /ready says 200. Any thread.
  void set_ready(bool ready) noexcept { ready_.store(ready, std::memory_order_relaxed); }

 private:
  void serve(std::stop_token stop);

  MetricRegistry& registry_;
  const Nanos limit_;
  std::atomic<bool> ready_{false};
  UniqueFd listener_;
  std::jthread thread_;
};

// The text of /metrics. Label values become valid UTF-8.
std::string prometheus_text(MetricRegistry& registry);

}  // namespace olly::health
