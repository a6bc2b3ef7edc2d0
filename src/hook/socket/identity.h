// Identities of connections whose sequence numbers nobody can read: from their endpoints.
//
// Both ends of one connection name the same two endpoints, in opposite order. Endpoints alone are
// no identity: a port is used again, and two requests must never get the same span id. So the first
// end that opens draws a number, and the other end gets it too, if it opens while the first one is
// open, or shortly after: the last word of one end may come before the first one of the other,
// whose thread lost its CPU. As long as one end is open no second connection has those endpoints,
// and the kernel keeps them from being used again for a while. Whoever comes later than that, or is
// seen by another agent, or goes through NAT, gets a number of its own and stays unlinked.
#pragma once

#include <cstdint>
#include <deque>
#include <unordered_map>

#include "event/event.h"

namespace olly::preload {

class Identities {
 public:
  explicit Identities(std::uint64_t seed) : seed_(seed) {}

  // What opened() gave, for closed().
  struct Ticket {
    std::uint64_t key = 0;  // 0 = no identity
    std::uint64_t number = 0;
    std::uint8_t side = 0;
    ConnectionIdentity identity;
  };
  // Loopback addresses count within their network namespace (its inode).
  Ticket opened(const Endpoint& local, const Endpoint& remote, std::uint32_t netns,
                Nanos now) noexcept;
  void closed(const Ticket& ticket, Nanos now) noexcept;
  // Forgets what nobody can join any more.
  void advance(Nanos now) noexcept;

  static constexpr Nanos kGrace = kSecond;  // how late the other end may be
  std::size_t size() const noexcept { return open_.size(); }

 private:
  struct Entry {
    std::uint64_t number = 0;
    bool seen[2] = {};
    Nanos closed[2] = {};  // 0 = open
  };
  struct Parting {
    Nanos at;
    std::uint64_t key, number;
  };
  std::uint64_t seed_;
  std::uint64_t drawn_ = 0;
  std::unordered_map<std::uint64_t, Entry> open_;
  std::deque<Parting> parting_;  // in the order of time
};

}  // namespace olly::preload
