#include "hook/socket/identity.h"

#include <algorithm>
#include <cstring>

#include "base/flat_map.h"

namespace olly::preload {
namespace {

bool is_loopback(const Endpoint& e) noexcept {
  if (e.family == Family::inet) return e.addr[0] == 127;
  return std::all_of(e.addr.begin(), e.addr.end() - 1, [](auto b) { return b == 0; }) &&
         e.addr[15] == 1;
}

std::uint64_t hash(std::uint64_t seed, const Endpoint& e) noexcept {
  std::uint64_t words[2];
  std::memcpy(words, e.addr.data(), sizeof words);
  std::uint64_t h = mix64(seed ^ words[0]);
  h = mix64(h + words[1]);
  return mix64(h ^ (std::uint64_t{e.port} << 8 | static_cast<std::uint64_t>(e.family)));
}

}  // namespace

Identities::Ticket Identities::opened(const Endpoint& local, const Endpoint& remote,
                                      std::uint32_t netns, Nanos now) noexcept {
  const bool inet = local.family == Family::inet || local.family == Family::inet6;
  if (!inet || local.family != remote.family || local.port == 0 || remote.port == 0) return {};
  const std::uint64_t own = hash(seed_, local);
  const std::uint64_t other = hash(seed_, remote);
  if (own == other) return {};  // connected to itself: which end is which?
  Ticket ticket;
  ticket.side = own < other ? 0 : 1;
  const std::uint64_t place = is_loopback(local) && is_loopback(remote) ? netns : 0;
  ticket.key = mix64(mix64(std::min(own, other) ^ place) + std::max(own, other));
  if (ticket.key == 0) ticket.key = 1;
  Entry& entry = open_[ticket.key];
  const Nanos other_closed = entry.closed[ticket.side ^ 1];
  const bool joins = entry.seen[ticket.side ^ 1] && !entry.seen[ticket.side] &&
                     (other_closed == 0 || now < other_closed + kGrace);
  if (!joins) {
    entry = {};
    entry.number = mix64(seed_ + ++drawn_ * 0x9e3779b97f4a7c15ULL);
  }
  entry.seen[ticket.side] = true;
  ticket.number = entry.number;
  auto first = static_cast<std::uint32_t>(entry.number);
  auto second = static_cast<std::uint32_t>(entry.number >> 32);
  if (first == second) ++second;  // the two ends must differ
  ticket.identity =
      ticket.side == 0 ? ConnectionIdentity{first, second} : ConnectionIdentity{second, first};
  return ticket;
}

void Identities::closed(const Ticket& ticket, Nanos now) noexcept {
  if (ticket.key == 0) return;
  const auto found = open_.find(ticket.key);
  if (found == open_.end() || found->second.number != ticket.number) return;
  found->second.closed[ticket.side] = std::max<Nanos>(now, 1);
  parting_.push_back({now + kGrace, ticket.key, ticket.number});
}

void Identities::advance(Nanos now) noexcept {
  for (; !parting_.empty() && parting_.front().at <= now; parting_.pop_front()) {
    const auto found = open_.find(parting_.front().key);
    if (found == open_.end() || found->second.number != parting_.front().number) continue;
    const Entry& e = found->second;
    const bool open = (e.seen[0] && e.closed[0] == 0) || (e.seen[1] && e.closed[1] == 0);
    if (!open) open_.erase(found);
  }
}

}  // namespace olly::preload
