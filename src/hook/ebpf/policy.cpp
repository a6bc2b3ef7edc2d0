#include "hook/ebpf/policy.h"

#include <algorithm>

#include "hook/ebpf/kernel_abi.h"

namespace olly {

olly_policy PolicyTable::current(SocketId sock) const noexcept {
  const olly_policy& slot = slots_[sock & (slots_.size() - 1)];
  if (slot.sock == sock) return slot;
  olly_policy fresh{};
  fresh.sock = sock;
  fresh.max_copy = std::min(max_copy_, OLLY_MAX_COPY);
  return fresh;
}

void PolicyTable::publish(const olly_policy& entry) noexcept {
  olly_policy& slot = slots_[entry.sock & (slots_.size() - 1)];
  if (slot.sock == entry.sock) {
    // Only hints change: each field is one store, and no mixture of old and new can do harm.
    __atomic_store_n(&slot.skip_until[0], entry.skip_until[0], __ATOMIC_RELAXED);
    __atomic_store_n(&slot.skip_until[1], entry.skip_until[1], __ATOMIC_RELAXED);
    __atomic_store_n(&slot.max_copy, entry.max_copy, __ATOMIC_RELAXED);
    __atomic_store_n(&slot.mode, entry.mode, __ATOMIC_RELEASE);
    return;
  }
  __atomic_store_n(&slot.sock, 0, __ATOMIC_SEQ_CST);
  slot.skip_until[0] = entry.skip_until[0];
  slot.skip_until[1] = entry.skip_until[1];
  slot.mode = entry.mode;
  slot.max_copy = entry.max_copy;
  __atomic_store_n(&slot.sock, entry.sock, __ATOMIC_RELEASE);
}

void PolicyTable::skip_until(SocketId sock, Direction direction, std::uint64_t position) noexcept {
  if (slots_.empty() || sock == 0) return;
  olly_policy entry = current(sock);
  entry.skip_until[static_cast<std::size_t>(direction)] = position;
  publish(entry);
}

void PolicyTable::limit_copy(SocketId sock, std::uint32_t bytes) noexcept {
  if (slots_.empty() || sock == 0) return;
  olly_policy entry = current(sock);
  entry.max_copy = std::min(bytes, max_copy_);
  publish(entry);
}

void PolicyTable::quiet(SocketId sock) noexcept {
  if (slots_.empty() || sock == 0) return;
  olly_policy entry = current(sock);
  entry.mode = OLLY_POLICY_QUIET;
  publish(entry);
}

void PolicyTable::forget(SocketId sock) noexcept {
  if (slots_.empty() || sock == 0) return;
  olly_policy& slot = slots_[sock & (slots_.size() - 1)];
  if (slot.sock == sock) __atomic_store_n(&slot.sock, 0, __ATOMIC_RELEASE);
}

}  // namespace olly
