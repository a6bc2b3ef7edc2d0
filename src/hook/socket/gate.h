// What programs say about sockets, made into Events that may be believed: process ids from the
// kernel, socket ids that no program can take from another user's, identities, one CLOSE per socket
// however many processes hold it.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "event/event.h"
#include "hook/socket/identity.h"
#include "hook/socket/program.h"

namespace olly::preload {

// Beside the kernel's own capture a socket is the kernel's: its id is the cookie, and OPEN, CLOSE,
// identity and positions are what the kernel says. Programs only say what was moved.
class KernelSockets {
 public:
  virtual ~KernelSockets() = default;
  // A program moves bytes on a socket. True: the kernel knows it as one of this program's user, and
  // is silent about its bytes from now on. False: they are left to the kernel.
  virtual bool claim(SocketId cookie, Program& program) noexcept = 0;
  // No program speaks of it any more.
  virtual void unclaim(SocketId cookie) noexcept = 0;
  // The verdict on a process that attaches.
  virtual bool observed(std::uint32_t pid) const noexcept = 0;
};

class Gate final : public EventSink {
 public:
  // `kernel`: null where no kernel is asked.
  explicit Gate(std::uint64_t seed, KernelSockets* kernel = nullptr)
      : identities_(seed), kernel_(kernel) {}

  // The following records are this program's, and what they become goes to `sink`.
  void enter(Program& program, EventSink& sink) noexcept {
    program_ = &program;
    sink_ = &sink;
  }
  // The program will say no more: its sockets close, as far as no other process holds them.
  void leave(Program& program, EventSink& sink, Nanos now) noexcept;

  // Whose policy a socket, or a TLS connection's plaintext, follows; null: nobody's. `cookie` is
  // its name there.
  Program* holder(SocketId sock, std::uint64_t& cookie) noexcept;
  std::uint64_t refused() const noexcept { return refused_; }
  std::size_t sockets() const noexcept { return sockets_.size(); }

  void on_process(const ProcessEvent&) noexcept override {}
  void on_connect(const ConnectEvent& event) noexcept override;
  void on_open(const OpenEvent& event) noexcept override;
  void on_io(const IoEvent& event) noexcept override;
  void on_close(const CloseEvent& event) noexcept override;
  void on_tls(const TlsEvent& event) noexcept override;
  void on_inject(const InjectEvent& event) noexcept override;
  void on_advance(Nanos now) noexcept override { identities_.advance(now); }

 private:
  struct Socket {
    std::uint32_t holders = 0;   // processes
    Program* program = nullptr;  // the last one that opened it
    std::uint64_t cookie = 0;
    Identities::Ticket ticket;
  };
  bool release(SocketId sock, const Program* by, Nanos now) noexcept;
  void claim(SocketId cookie, Program& by) noexcept;

  Program* program_ = nullptr;
  EventSink* sink_ = nullptr;
  Identities identities_;
  KernelSockets* kernel_;
  std::unordered_map<SocketId, Socket> sockets_;
  std::uint64_t refused_ = 0;
};

}  // namespace olly::preload
