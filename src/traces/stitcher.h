// Brings the two ends of one exchange together: the CLIENT here and the SERVER there have swapped
// connection identities and the same request position, whatever NAT is between. Also knows which
// sockets are observed, so that a SERVER waits only for a CLIENT that can come.
#pragma once

#include <deque>
#include <vector>

#include "base/flat_map.h"
#include "traces/node.h"

namespace olly {

// Both ends of one exchange, as far as they have come. Lives while one of them does, and a while
// longer for a CLIENT that left before its SERVER was seen.
struct Join {
  std::uint64_t connection = 0;
  std::uint64_t position = 0;
  Node* client = nullptr;
  Node* server = nullptr;
  bool client_left = false;  // the fields below are its last words
  bool server_seen = false;
  TraceId trace;
  SpanId client_span;
  std::uint8_t trace_flags = 1;
  Nanos client_end = 0;  // 0 = not known, or not whole
  Nanos server_start = 0;
};

class Stitcher {
 public:
  // Enters a node under its key. node.join stays null when the identity is not known or when
  // another node already has its place.
  void enter(Node& node);
  // `keep_for`: how long a CLIENT whose peer is observed but has not come is remembered.
  void leave(Node& node, Nanos now, Nanos keep_for);

  void opened(const ConnectionIdentity& identity);
  // The identity stays observed until now + keep_for: its events may still be on their way.
  void closed(const ConnectionIdentity& identity, Nanos now, Nanos keep_for);
  bool observed(const ConnectionIdentity& identity) noexcept;
  void advance(Nanos now);

  std::size_t joins() const noexcept { return joins_.size(); }
  std::size_t bytes() const noexcept;

 private:
  struct Key {
    std::uint64_t connection, position;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    std::uint64_t operator()(const Key& k) const noexcept {
      return mix64(k.connection ^ mix64(k.position + 0x9e3779b97f4a7c15ULL));
    }
  };
  struct IdHash {
    std::uint64_t operator()(std::uint64_t id) const noexcept { return mix64(id); }
  };
  static std::uint64_t packed(const ConnectionIdentity& identity) noexcept {
    return static_cast<std::uint64_t>(identity.out_first) << 32 | identity.in_first;
  }
  void erase(Join& join);

  struct Parting {
    Nanos at;
    Key key;
  };
  struct Closing {
    Nanos at;
    std::uint64_t identity;
  };
  FlatMap<Key, Join*, KeyHash> joins_;
  std::deque<Join> pool_;
  std::vector<Join*> free_;
  std::deque<Parting> parting_;                             // in the order of time
  FlatMap<std::uint64_t, std::uint32_t, IdHash> observed_;  // how many open sockets have it
  std::deque<Closing> closing_;
};

}  // namespace olly
