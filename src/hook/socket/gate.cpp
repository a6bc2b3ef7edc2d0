#include "hook/socket/gate.h"

#include "base/flat_map.h"

namespace olly::preload {
namespace {

// More than the library keeps: a program that names more does not tell the truth.
constexpr std::size_t kMaxSockets = 32768;
// In a program's table of sockets: the kernel captures it.
constexpr SocketId kLeftToTheKernel = 0;

// Processes of one user can look into each other anyway, and may share a socket.
SocketId socket_id(std::uint32_t uid, std::uint64_t cookie) noexcept {
  const std::uint64_t id = mix64(cookie + mix64(std::uint64_t{uid} + 1));
  return id != 0 ? id : 1;
}

}  // namespace

Program* Gate::holder(SocketId sock, std::uint64_t& cookie) noexcept {
  if (const auto found = sockets_.find(sock); found != sockets_.end()) {
    cookie = found->second.cookie;
    return found->second.program;
  }
  const auto found = sockets_.find(plaintext_layer(sock));
  if (found == sockets_.end()) return nullptr;
  cookie = plaintext_layer(found->second.cookie);
  return found->second.program;
}

void Gate::on_connect(const ConnectEvent& event) noexcept {
  if (kernel_ != nullptr) return;  // it has said so itself
  ConnectEvent e = event;
  e.task.pid = program_->pid;
  e.sock = socket_id(program_->uid, event.sock);
  sink_->on_connect(e);
}

void Gate::on_open(const OpenEvent& event) noexcept {
  Program& p = *program_;
  if (p.sockets.size() >= kMaxSockets && !p.sockets.contains(event.sock)) {
    ++refused_;
    return;
  }
  if (kernel_ != nullptr) {
    claim(event.sock, p);
    return;
  }
  OpenEvent e = event;
  e.task.pid = p.pid;
  e.sock = socket_id(p.uid, event.sock);
  e.netns = p.netns;
  e.own = false;
  Socket& s = sockets_[e.sock];
  if (s.holders == 0) s.ticket = identities_.opened(e.local, e.remote, p.netns, e.time);
  if (p.sockets.emplace(event.sock, e.sock).second) ++s.holders;
  s.program = &p;
  s.cookie = event.sock;
  e.identity = s.ticket.identity;
  sink_->on_open(e);
}

// A program that attached anew says OPEN again of what it had said before.
void Gate::claim(SocketId cookie, Program& p) noexcept {
  const auto [at, first] = p.sockets.emplace(cookie, kLeftToTheKernel);
  if (at->second == kLeftToTheKernel) {
    if (cookie == kLeftToTheKernel || !kernel_->claim(cookie, p)) {
      p.policy.quiet(cookie);
      return;
    }
    at->second = cookie;
    ++sockets_[cookie].holders;
  }
  Socket& s = sockets_[cookie];
  s.program = &p;
  s.cookie = cookie;
}

void Gate::on_io(const IoEvent& event) noexcept {
  const auto found = program_->sockets.find(event.sock);
  if (found == program_->sockets.end()) {
    ++refused_;
    return;
  }
  if (found->second == kLeftToTheKernel) return;
  IoEvent e = event;
  e.task.pid = program_->pid;
  e.sock = found->second;
  sink_->on_io(e);
}

void Gate::on_tls(const TlsEvent& event) noexcept {
  const auto found = program_->sockets.find(event.sock);
  if (found == program_->sockets.end()) {
    ++refused_;
    return;
  }
  TlsEvent e = event;
  e.sock = found->second;
  sink_->on_tls(e);
}

// Whose it is, the kernel has said: nobody claims ids for another's requests.
void Gate::on_inject(const InjectEvent& event) noexcept {
  InjectEvent e = event;
  e.pid = program_->pid;
  sink_->on_inject(e);
}

// True: nobody holds it any more.
bool Gate::release(SocketId sock, const Program* by, Nanos now) noexcept {
  const auto found = sockets_.find(sock);
  if (found == sockets_.end()) return false;
  Socket& s = found->second;
  if (s.program == by) s.program = nullptr;
  if (--s.holders > 0) return false;
  if (kernel_ != nullptr) {
    kernel_->unclaim(sock);
    sockets_.erase(found);
    return false;  // the kernel says when it is closed
  }
  identities_.closed(s.ticket, now);
  sockets_.erase(found);
  return true;
}

void Gate::on_close(const CloseEvent& event) noexcept {
  const auto found = program_->sockets.find(event.sock);
  if (found == program_->sockets.end()) return;
  CloseEvent e = event;
  e.sock = found->second;
  program_->sockets.erase(found);
  if (release(e.sock, program_, e.time)) sink_->on_close(e);
}

void Gate::leave(Program& program, EventSink& sink, Nanos now) noexcept {
  for (const auto& [cookie, sock] : program.sockets) {
    if (!release(sock, &program, now)) continue;
    CloseEvent e;
    e.time = now;
    e.sock = sock;
    sink.on_close(e);
  }
  program.sockets.clear();
}

}  // namespace olly::preload
