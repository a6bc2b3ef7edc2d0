#include "traces/stitcher.h"

namespace olly {

void Stitcher::enter(Node& node) {
  node.join = nullptr;
  if (!node.key.has_identity) return;
  Join*& slot = joins_.insert({node.key.connection, node.key.position});
  if (!slot) {
    if (free_.empty()) {
      slot = &pool_.emplace_back();
    } else {
      slot = free_.back();
      free_.pop_back();
      *slot = Join{};
    }
    slot->connection = node.key.connection;
    slot->position = node.key.position;
  }
  Join& join = *slot;
  if (node.key.side == Side::client) {
    if (join.client || join.client_left) return;  // the place is taken: nobody can tell them apart
    join.client = &node;
    join.client_span = node.id;
  } else {
    if (join.server || join.server_seen) return;
    join.server = &node;
    join.server_seen = true;
    join.server_start = node.exchange.request_first.time;
  }
  node.join = &join;
}

void Stitcher::leave(Node& node, Nanos now, Nanos keep_for) {
  Join* join = node.join;
  if (!join) return;
  node.join = nullptr;
  if (node.key.side == Side::client) {
    join->client = nullptr;
    join->client_left = true;
    join->trace = node.trace;
    join->trace_flags = node.trace_flags;
    if (join->server) return;
    const ConnectionIdentity& own = node.exchange.identity;
    if (!join->server_seen && observed(own.peer())) {
      parting_.push_back({now + keep_for, {join->connection, join->position}});
      return;
    }
  } else {
    join->server = nullptr;
    if (join->client) return;
  }
  erase(*join);
}

void Stitcher::erase(Join& join) {
  joins_.erase({join.connection, join.position});
  free_.push_back(&join);
}

void Stitcher::opened(const ConnectionIdentity& identity) {
  if (identity.known()) ++observed_.insert(packed(identity));
}

void Stitcher::closed(const ConnectionIdentity& identity, Nanos now, Nanos keep_for) {
  if (identity.known()) closing_.push_back({now + keep_for, packed(identity)});
}

bool Stitcher::observed(const ConnectionIdentity& identity) noexcept {
  return identity.known() && observed_.find(packed(identity)) != nullptr;
}

void Stitcher::advance(Nanos now) {
  while (!closing_.empty() && closing_.front().at <= now) {
    const std::uint64_t id = closing_.front().identity;
    closing_.pop_front();
    std::uint32_t* count = observed_.find(id);
    if (count && --*count == 0) observed_.erase(id);
  }
  while (!parting_.empty() && parting_.front().at <= now) {
    const Key key = parting_.front().key;
    parting_.pop_front();
    Join** join = joins_.find(key);
    // A SERVER that has come in the meantime takes the entry along when it leaves.
    if (join && !(*join)->client && !(*join)->server) erase(**join);
  }
}

std::size_t Stitcher::bytes() const noexcept {
  return joins_.bytes() + observed_.bytes() + pool_.size() * sizeof(Join) +
         parting_.size() * sizeof(Parting) + closing_.size() * sizeof(Closing);
}

}  // namespace olly
