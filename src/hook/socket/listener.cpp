#include "hook/socket/listener.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace olly::preload {
namespace {

constexpr std::size_t kMaxSilent = 64;
constexpr Nanos kSilence = 2 * kSecond;
constexpr int kBacklog = 512;

std::unexpected<Error> refuse(std::string what, std::string hint = {}) {
  const ErrorCode code = errno == EACCES || errno == EPERM ? ErrorCode::privilege : ErrorCode::io;
  return fail(code, fmt::format("hook.socket_path: {}", what), std::move(hint));
}

std::string reason() { return std::strerror(errno); }

// Nothing is there, or a socket without a listener: then it is removed.
Result<void> make_room(const std::string& path, const sockaddr_un& address) {
  struct stat there {};
  if (::lstat(path.c_str(), &there) != 0) return {};
  errno = 0;
  if (!S_ISSOCK(there.st_mode)) return refuse(path + " is there and is no socket");
  const UniqueFd probe(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto* to = reinterpret_cast<const sockaddr*>(&address);
  const int error = ::connect(probe.get(), to, sizeof address) == 0 ? 0 : errno;
  if (error != ECONNREFUSED) {
    if (error == EACCES) return refuse(path + " belongs to somebody else");
    return refuse("another agent listens on " + path, "stop it, or give this one another path");
  }
  if (::unlink(path.c_str()) != 0) return refuse(fmt::format("{}: {}", path, reason()));
  return {};
}

}  // namespace

std::string default_socket_path() {
  if (::geteuid() == 0) return "/run/olly/hook.sock";
  const char* folder = std::getenv("XDG_RUNTIME_DIR");
  return folder != nullptr && *folder != '\0' ? std::string(folder) + "/olly/hook.sock"
                                              : "/run/olly/hook.sock";
}

Result<void> Listener::start(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  errno = 0;
  if (path.empty() || path.front() != '/' || path.size() >= sizeof address.sun_path) {
    return refuse(fmt::format("'{}' is no path for a socket", path),
                  fmt::format("an absolute path of at most {} bytes", sizeof address.sun_path - 1));
  }
  path.copy(address.sun_path, path.size());
  const std::string folder = path.substr(0, std::max<std::size_t>(path.rfind('/'), 1));
  if (::mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST) {
    return refuse(fmt::format("{}: {}", folder, reason()), "make the folder, or choose another");
  }
  if (auto done = make_room(path, address); !done) return done;
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return refuse(reason());
  // Before bind: the file never has another mode, but for what the umask takes, which chmod gives.
  ::fchmod(fd.get(), 0660);
  struct stat made {};
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::chmod(path.c_str(), 0660) != 0 || ::listen(fd.get(), kBacklog) != 0 ||
      ::lstat(path.c_str(), &made) != 0) {
    return refuse(fmt::format("{}: {}", path, reason()));
  }
  listening_ = std::move(fd);
  path_ = path;
  inode_ = made.st_ino;
  return {};
}

void Listener::stop() noexcept {
  if (!listening_) return;
  struct stat there {};
  if (::lstat(path_.c_str(), &there) == 0 && there.st_ino == inode_) ::unlink(path_.c_str());
  listening_.reset();
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
  if (!listening_) return out;
  for (std::size_t i = 0; i < most; ++i) {
    UniqueFd fd(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
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
    ucred cred{};
    socklen_t length = sizeof cred;
    const bool known =
        ::getsockopt(s.fd.get(), SOL_SOCKET, SO_PEERCRED, &cred, &length) == 0 && cred.pid > 0;
    // Root observes whom the socket's mode lets in; anybody else only programs of his own.
    const bool ours = ::geteuid() == 0 || cred.uid == ::geteuid();
    if (heard == Heard::garbage || !known || !ours) {
      ++refused_;
      return true;
    }
    one.pid = static_cast<std::uint32_t>(cred.pid);
    one.uid = cred.uid;
    out.push_back(std::move(one));
    return true;
  });
  return out;
}

}  // namespace olly::preload
