// The kernel's capture with programs of libolly.so beside it: each byte comes from one of the two.
//
// A socket is the kernel's: OPEN and CLOSE, identity, positions and the life of processes are what
// the eBPF programs say. Once a program with the library moves bytes on a socket, the kernel goes
// quiet for that socket (the policy that also silences unknown protocols), and what is moved is
// what the library says, under the same id and the same positions; the stream drops what came from
// both in the moment of the change. What the library does not see (a socket of a system call of the
// program's own, say) the kernel goes on capturing. Why by socket: docs/decisions/0005*.
//
// Only with the capture `sockio`, whose socket ids are cookies, as the library's are.
#pragma once

#include <cstddef>
#include <memory>

#include "hook/ebpf/ebpf_provider.h"
#include "hook/known_sockets.h"
#include "hook/socket/socket_provider.h"

namespace olly {

class JointProvider final : public Provider, private preload::KernelSockets {
 public:
  // `ebpf` has started.
  explicit JointProvider(std::unique_ptr<EbpfProvider> ebpf) : ebpf_(std::move(ebpf)) {}
  ~JointProvider() override { stop(); }

  // Listens for programs. On an error take_ebpf() goes on alone.
  Result<void> listen(SocketOptions options);
  std::unique_ptr<EbpfProvider> take_ebpf() noexcept { return std::move(ebpf_); }

  std::string_view name() const noexcept override { return "ebpf"; }
  Result<void> start() override { return {}; }
  bool poll(EventSink& sink, Nanos wait) noexcept override;
  void stop() noexcept override;
  void set_capture(bool on) noexcept override;
  std::size_t programs() const noexcept override { return socket_->programs(); }
  void wake() noexcept override { ebpf_->wake(); }

  void skip_until(SocketId sock, Direction direction, std::uint64_t position) noexcept override;
  void limit_copy(SocketId sock, std::uint32_t bytes) noexcept override;
  void quiet(SocketId sock) noexcept override;
  void forget(SocketId sock) noexcept override;
  void set_process(std::uint32_t pid, const ProcessVerdict& verdict) noexcept override;

 private:
  class Merge;
  bool claim(SocketId cookie, preload::Program& program) noexcept override;
  void unclaim(SocketId cookie) noexcept override;
  bool observed(std::uint32_t pid) const noexcept override { return ebpf_->observed(pid); }
  // Everything up to the kernel's horizon. False: there was nothing.
  bool round(EventSink& sink) noexcept;
  CapturePolicy& speaker(SocketId sock) noexcept;

  std::unique_ptr<EbpfProvider> ebpf_;
  std::unique_ptr<SocketProvider> socket_;
  preload::KnownSockets known_;
  bool running_ = false;
};

}  // namespace olly
