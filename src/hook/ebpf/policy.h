// The table of connection policies, as mapped from the kernel (struct olly_policy in event/abi.h).
#pragma once

#include <cstdint>
#include <span>

#include "event/abi.h"
#include "event/event.h"

namespace olly {

// Writes entries so that a reader on another CPU sees a whole one or one that names no socket. Two
// connections of one slot take it from each other: a lost entry costs time, never correctness.
class PolicyTable {
 public:
  PolicyTable() = default;
  // `slots` has a power-of-two size. `max_copy`: what an entry may hold; a new one starts
  // with at most OLLY_MAX_COPY.
  PolicyTable(std::span<olly_policy> slots, std::uint32_t max_copy) noexcept
      : slots_(slots), max_copy_(max_copy) {}

  void skip_until(SocketId sock, Direction direction, std::uint64_t position) noexcept;
  void limit_copy(SocketId sock, std::uint32_t bytes) noexcept;
  void quiet(SocketId sock) noexcept;
  void forget(SocketId sock) noexcept;
  // The connection's entry, with its former values if it is there.
  olly_policy current(SocketId sock) const noexcept;

 private:
  void publish(const olly_policy& entry) noexcept;

  std::span<olly_policy> slots_;
  std::uint32_t max_copy_ = 0;
};

}  // namespace olly
