#include "hook/socket/listener.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace olly::preload {
namespace {

constexpr std::size_t kMaxSilent = 64;
constexpr Nanos kSilence = 2 * kSecond;

}  // namespace

std::string default_socket_path() {
  if (::geteuid() == 0) return "/run/olly/hook.sock";
  const char* folder = std::getenv("XDG_RUNTIME_DIR");
  return folder != nullptr && *folder != '\0' ? std::string(folder) + "/olly/hook.sock"
                                              : "/run/olly/hook.sock";
}

Result<void> Listener::start(const std::string& path) { return listening_.start(path, 0660); }

void Listener::stop() noexcept {
  listening_.stop();
  silent_.clear();
}

Listener::Heard Listener::hear(int fd, Registration& to) {
  iovec part{&to.hello, sizeof to.hello};
  alignas(cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t n = ::recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n < 0) return errno == EAGAIN || errno == EINTR ? Heard::nothing : Heard::garbage;
  int descriptors = 0;
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t at = 0; at + sizeof(int) <= c->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
      int received = -1;
      std::memcpy(&received, CMSG_DATA(c) + at, sizeof received);
      to.region.reset(received);  // of several the last one is kept, the others are closed
      ++descriptors;
    }
  }
  const bool whole = n == static_cast<ssize_t>(sizeof to.hello) && descriptors == 1 &&
                     (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 &&
                     to.hello.magic == OLLY_PRELOAD_MAGIC;
  to.hello.comm[sizeof to.hello.comm - 1] = '\0';
  to.hello.filename[sizeof to.hello.filename - 1] = '\0';
  return whole ? Heard::message : Heard::garbage;
}

std::vector<Registration> Listener::take(Nanos now, std::size_t most) {
  std::vector<Registration> out;
  if (listening_.fd() < 0) return out;
  for (std::size_t i = 0; i < most; ++i) {
    UniqueFd fd = listening_.accept();
    if (!fd) break;
    if (silent_.size() >= kMaxSilent) {
      silent_.erase(silent_.begin());
      ++refused_;
    }
    silent_.push_back({std::move(fd), now});
  }
  std::erase_if(silent_, [&](Silent& s) {
    Registration one;
    const Heard heard = hear(s.fd.get(), one);
    if (heard == Heard::nothing) {
      if (now < s.since + kSilence) return false;
      ++refused_;
      return true;
    }
    const std::optional<LocalPeer> peer = local_peer(s.fd.get());
    // Root observes whom the socket's mode lets in; anybody else only programs of his own.
    const bool ours = peer && (::geteuid() == 0 || peer->uid == ::geteuid());
    if (heard == Heard::garbage || !ours) {
      ++refused_;
      return true;
    }
    one.pid = peer->pid;
    one.uid = peer->uid;
    out.push_back(std::move(one));
    return true;
  });
  return out;
}

}  // namespace olly::preload
