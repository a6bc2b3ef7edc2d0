// Events from the kernel. One of two capture back ends (bpf/sockio.bpf.c, bpf/syscall.bpf.c),
// chosen by what the kernel has; the same events from both.
#pragma once

#include <cstdint>
#include <memory>

#include "config/config.h"
#include "event/abi.h"
#include "hook/provider.h"
#include "metrics/registry.h"

namespace olly {

struct EbpfOptions {
  config::CaptureChoice capture = config::CaptureChoice::automatic;
  // Clamped to OLLY_MAX_CALL.
  std::uint64_t max_bytes_per_call = 1024 * 1024;
  // Per CPU, a power of two of at least 64 KiB; made smaller where all CPUs together would take
  // more than 64 MiB. Counts once as resident memory of the agent.
  std::uint64_t ring_bytes = 4 * 1024 * 1024;
  // Processes nobody has given a verdict on (set_process): observed or not. `olly run` says no and
  // observes its child; forks inherit the verdict in the kernel.
  bool observe_unknown = true;
  // What is observed began after the programs were attached, its sockets too (`olly run`).
  bool all_new = false;
  // Somebody finds out protocols and says what to copy; without (olly record), all calls are copied
  // alike.
  bool parsed = true;
  bool capturing = true;  // else start() attaches, and set_capture() begins
  // TLS libraries are probed, so many files at most.
  bool tls = true;
  bool tls_expensive = false;
  std::size_t tls_max_files = 64;
  MetricRegistry* registry = nullptr;  // may be null
};

// What the configuration says; the rest as above.
EbpfOptions ebpf_options(const config::Config& config);

// Threads: start, poll, stop and the policy from one thread; wake from any.
// Idle it blocks and uses no CPU; the kernel wakes it. While events come it sleeps 1-4 ms between
// drains and is never woken by an event.
class EbpfProvider : public Provider {
 public:
  explicit EbpfProvider(const EbpfOptions& options);
  ~EbpfProvider() override;

  std::string_view name() const noexcept override { return "ebpf"; }
  // Which back end is running: "sockio", "syscall"; empty before start().
  std::string_view capture() const noexcept;

  Result<void> start() override;
  bool poll(EventSink& sink, Nanos wait) noexcept override;
  void stop() noexcept override;
  void set_capture(bool on) noexcept override;
  void wake() noexcept override;

  void skip_until(SocketId sock, Direction direction, std::uint64_t position) noexcept override;
  void limit_copy(SocketId sock, std::uint32_t bytes) noexcept override;
  void quiet(SocketId sock) noexcept override;
  void forget(SocketId sock) noexcept override;
  void set_process(std::uint32_t pid, const ProcessVerdict& verdict) noexcept override;

  // For a JointProvider. A descriptor that ends a pause when it is readable:
  bool watch(int fd) noexcept;
  // As poll() waits when there is nothing.
  void pause(Nanos wait) noexcept;
  // The verdict on a process, or what holds for those nobody has given one on.
  bool observed(std::uint32_t pid) const noexcept;
  // What was said of a connection.
  olly_policy policy(SocketId sock) const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace olly
