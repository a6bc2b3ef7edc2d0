// Where programs with libolly.so report: a Unix socket (SOCK_SEQPACKET) at hook.socket_path. One
// message with one descriptor each, then the connection is over. Who sent it says the kernel.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "base/local_listener.h"
#include "base/time.h"
#include "event/preload_abi.h"

namespace olly::preload {

struct Registration {
  std::uint32_t pid = 0;  // in the agent's pid namespace, from the kernel
  std::uint32_t uid = 0;
  olly_preload_hello hello{};  // its strings end with NUL
  UniqueFd region;
};

class Listener {
 public:
  Listener() = default;
  ~Listener() { stop(); }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // Binds with mode 0660; makes the folder when only that is missing; a socket that nobody listens
  // on any more is replaced. Errors: io (a file is in the way, another agent listens), privilege.
  Result<void> start(const std::string& path);
  // The path is removed if it is still ours. Idempotent.
  void stop() noexcept;

  // Takes what has come, at most `most`. Connections that say nothing are closed after a while.
  std::vector<Registration> take(Nanos now, std::size_t most);
  // To poll for reading: the listening socket, and those that have not spoken yet.
  int fd() const noexcept { return listening_.fd(); }
  bool waiting() const noexcept { return !silent_.empty(); }
  std::uint64_t refused() const noexcept { return refused_; }

 private:
  struct Silent {
    UniqueFd fd;
    Nanos since;
  };
  enum class Heard { message, nothing, garbage };
  Heard hear(int fd, Registration& to);

  LocalListener listening_{"hook.socket_path"};
  std::vector<Silent> silent_;
  std::uint64_t refused_ = 0;
};

// $XDG_RUNTIME_DIR/olly/hook.sock for a user without privileges, else /run/olly/hook.sock.
std::string default_socket_path();

}  // namespace olly::preload
