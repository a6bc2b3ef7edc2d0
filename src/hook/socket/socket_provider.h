// Events from programs that run with libolly.so (preload/): no privileges, no kernel support.
//
// The same Events as from the kernel, but for what cannot be had there: no CPU and run queue time,
// no goroutines, identities that only both ends under this agent share (identity.h), and only
// processes that were started with the library. docs/kernels.md has the table.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "event/preload_abi.h"
#include "hook/provider.h"
#include "hook/socket/gate.h"
#include "metrics/registry.h"

namespace olly {

struct SocketOptions {
  std::string path;  // hook.socket_path; empty = the default for this user
  std::uint64_t max_bytes_per_call = 16 * 1024;
  bool capturing = true;                 // else set_capture() begins
  std::vector<olly_inject_rule> inject;  // header injection; empty = off
  MetricRegistry* registry = nullptr;    // may be null
  // Beside the kernel's capture (JointProvider): sockets and processes are what the kernel says.
  preload::KernelSockets* kernel = nullptr;
};

// Threads: start, poll, stop and the policy from one thread; wake from any.
// Idle it blocks; a program's next record wakes it (a futex in the shared memory, which needs no
// descriptor in the program). While events come it sleeps 1-4 ms between drains and nobody wakes
// it.
class SocketProvider : public Provider {
 public:
  explicit SocketProvider(const SocketOptions& options);
  ~SocketProvider() override;

  std::string_view name() const noexcept override { return "socket"; }
  Result<void> start() override;
  bool poll(EventSink& sink, Nanos wait) noexcept override;
  void stop() noexcept override;
  void set_capture(bool on) noexcept override;
  std::size_t programs() const noexcept override;
  void wake() noexcept override;

  void skip_until(SocketId sock, Direction direction, std::uint64_t position) noexcept override;
  void limit_copy(SocketId sock, std::uint32_t bytes) noexcept override;
  void quiet(SocketId sock) noexcept override;
  void forget(SocketId sock) noexcept override;
  void set_process(std::uint32_t pid, const ProcessVerdict& verdict) noexcept override;

  // For a JointProvider, which has the say when: poll() is made of these.
  // Readable when a program is new or gone, or when one rings after arm().
  int fd() const noexcept;
  // Takes what has come up to now: new programs, and the oldest record of each ring.
  void collect(EventSink& sink, Nanos now);
  // Records up to `time`, in order; what comes later is not older than that. Returns how many.
  std::size_t hand_on(Nanos time, EventSink& sink) noexcept;
  // Gives space back to the programs; those that have ended leave.
  void settle(EventSink& sink);
  // Before a wait of at most `wait`: how long it may be. While programs write, a few milliseconds;
  // else they ring. Always followed by disarm().
  Nanos arm(Nanos now, Nanos wait) noexcept;
  void disarm(Nanos now) noexcept;
  // The process runs another program since `time`: who attached before that says no more.
  void exec(std::uint32_t pid, Nanos time) noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace olly
