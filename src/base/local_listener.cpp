#include "base/local_listener.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace olly {
namespace {

constexpr int kBacklog = 512;

std::unexpected<Error> refuse(const std::string& name, std::string what, std::string hint = {}) {
  const ErrorCode code = errno == EACCES || errno == EPERM ? ErrorCode::privilege : ErrorCode::io;
  return fail(code, fmt::format("{}: {}", name, what), std::move(hint));
}

std::string reason() { return std::strerror(errno); }

// Nothing is there, or a socket without a listener: then it is removed.
Result<void> make_room(const std::string& name, const std::string& path,
                       const sockaddr_un& address) {
  struct stat there {};
  if (::lstat(path.c_str(), &there) != 0) return {};
  errno = 0;
  if (!S_ISSOCK(there.st_mode)) return refuse(name, path + " is there and is no socket");
  const UniqueFd probe(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto* to = reinterpret_cast<const sockaddr*>(&address);
  const int error = ::connect(probe.get(), to, sizeof address) == 0 ? 0 : errno;
  if (error != ECONNREFUSED) {
    if (error == EACCES) return refuse(name, path + " belongs to somebody else");
    return refuse(name, "another agent listens on " + path,
                  "stop it, or give this one another path");
  }
  if (::unlink(path.c_str()) != 0) return refuse(name, fmt::format("{}: {}", path, reason()));
  return {};
}

}  // namespace

bool is_socket_path(const std::string& path) noexcept {
  return !path.empty() && path.front() == '/' && path.size() < sizeof(sockaddr_un::sun_path);
}

Result<void> LocalListener::start(const std::string& path, mode_t mode) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  errno = 0;
  if (!is_socket_path(path)) {
    return refuse(name_, fmt::format("'{}' is no path for a socket", path),
                  fmt::format("an absolute path of at most {} bytes", sizeof address.sun_path - 1));
  }
  path.copy(address.sun_path, path.size());
  const std::string folder = path.substr(0, std::max<std::size_t>(path.rfind('/'), 1));
  if (::mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST) {
    return refuse(name_, fmt::format("{}: {}", folder, reason()),
                  "make the folder, or choose another");
  }
  if (auto done = make_room(name_, path, address); !done) return done;
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return refuse(name_, reason());
  // Before bind: the file never has another mode, but for what the umask takes, which chmod gives.
  ::fchmod(fd.get(), mode);
  struct stat made {};
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::chmod(path.c_str(), mode) != 0 || ::listen(fd.get(), kBacklog) != 0 ||
      ::lstat(path.c_str(), &made) != 0) {
    return refuse(name_, fmt::format("{}: {}", path, reason()));
  }
  listening_ = std::move(fd);
  path_ = path;
  inode_ = made.st_ino;
  return {};
}

void LocalListener::stop() noexcept {
  if (!listening_) return;
  struct stat there {};
  if (::lstat(path_.c_str(), &there) == 0 && there.st_ino == inode_) ::unlink(path_.c_str());
  listening_.reset();
}

UniqueFd LocalListener::accept() const noexcept {
  return UniqueFd(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

std::optional<LocalPeer> local_peer(int fd) noexcept {
  ucred cred{};
  socklen_t length = sizeof cred;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &length) != 0 || cred.pid <= 0) return {};
  return LocalPeer{static_cast<std::uint32_t>(cred.pid), cred.uid};
}

}  // namespace olly
