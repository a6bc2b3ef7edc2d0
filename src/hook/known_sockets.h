// The sockets that the kernel has opened, and who speaks of them. Bounded: past the limit it starts
// over, and what was open stays with the kernel. Pipeline thread only.
#pragma once

#include <cstdint>

#include "base/flat_map.h"
#include "event/event.h"

namespace olly::preload {

class KnownSockets {
 public:
  static constexpr std::size_t kLimit = 98'304;  // 3 MiB

  struct Entry {
    std::uint32_t pid;  // whose OPEN it was
    bool claimed;       // a program with libolly.so says what is moved
    bool quiet;         // nobody wants to know
  };

  void opened(SocketId sock, std::uint32_t pid) noexcept {
    Entry* known = map_.find(sock);
    if (known == nullptr) {
      if (map_.size() >= kLimit) map_ = Map{};
      known = &map_.insert(sock);
    }
    known->pid = pid;
  }
  void closed(SocketId sock) noexcept { map_.erase(sock); }
  Entry* find(SocketId sock) noexcept { return map_.find(sock); }
  std::size_t size() const noexcept { return map_.size(); }

 private:
  struct Hash {
    std::uint64_t operator()(SocketId sock) const noexcept { return mix64(sock); }
  };
  using Map = FlatMap<SocketId, Entry, Hash>;
  Map map_;
};

}  // namespace olly::preload
