// A listening Unix socket (SOCK_SEQPACKET) with a path of its own.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/fd.h"

namespace olly {

class LocalListener {
 public:
  // `name` is what the path is called in messages: a key of the configuration, say.
  explicit LocalListener(std::string name) : name_(std::move(name)) {}
  ~LocalListener() { stop(); }
  LocalListener(const LocalListener&) = delete;
  LocalListener& operator=(const LocalListener&) = delete;

  // Makes the folder when only that is missing; a socket that nobody listens on any more is
  // replaced. Errors: io (a file is in the way, another agent listens), privilege.
  Result<void> start(const std::string& path, mode_t mode);
  // The path is removed if it is still ours. Idempotent.
  void stop() noexcept;
  // A connection that waits, not blocking; none: no descriptor.
  UniqueFd accept() const noexcept;
  int fd() const noexcept { return listening_.get(); }

 private:
  std::string name_;
  UniqueFd listening_;
  std::string path_;
  ino_t inode_ = 0;
};

// Who is at the other end of a connection, from the kernel.
struct LocalPeer {
  std::uint32_t pid;
  std::uint32_t uid;
};
std::optional<LocalPeer> local_peer(int fd) noexcept;

// The longest path of a socket, and whether this is one.
bool is_socket_path(const std::string& path) noexcept;

}  // namespace olly
