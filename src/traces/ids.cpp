#include "traces/ids.h"

#include "base/flat_map.h"

namespace olly {
namespace {

// One lane of the hash; `lane` separates span ids from the two halves of trace ids.
std::uint64_t hash(const SpanKey& key, std::uint64_t lane) noexcept {
  std::uint64_t h = mix64(lane * 0x9e3779b97f4a7c15ULL + 1);
  h = mix64(h ^ key.connection);
  h = mix64(h + key.position);
  h = mix64(h ^ (key.has_identity ? 0x10 : 0x20) ^ static_cast<std::uint64_t>(key.side));
  return h != 0 ? h : 1;
}

void store(std::uint8_t* out, std::uint64_t value) noexcept {
  for (int i = 0; i < 8; ++i) out[i] = static_cast<std::uint8_t>(value >> (56 - 8 * i));
}

}  // namespace

SpanKey span_key(const ConnectionIdentity& identity, SocketId sock, std::uint64_t position,
                 Side side) noexcept {
  SpanKey key;
  key.position = position;
  key.side = side;
  key.has_identity = identity.known();
  const ConnectionIdentity client = side == Side::client ? identity : identity.peer();
  key.connection = key.has_identity
                       ? static_cast<std::uint64_t>(client.out_first) << 32 | client.in_first
                       : sock;
  return key;
}

SpanId span_id_of(const SpanKey& key) noexcept {
  SpanId id;
  store(id.bytes.data(), hash(key, 1));
  return id;
}

TraceId root_trace_id_of(const SpanKey& key) noexcept {
  TraceId id;
  store(id.bytes.data(), hash(key, 2));
  store(id.bytes.data() + 8, hash(key, 3));
  return id;
}

}  // namespace olly
