// Ids that two agents compute alike without talking: hashes of (connection identity in client
// order, position of the request's first byte, side). Never zero.
#pragma once

#include "protocol/exchange.h"
#include "traces/span.h"

namespace olly {

// What names one end of one exchange. Where the connection's identity is not known, the socket id
// stands for it, which is unique only within one agent's run.
struct SpanKey {
  std::uint64_t connection = 0;  // client's out_first << 32 | client's in_first, or the socket id
  std::uint64_t position = 0;
  bool has_identity = false;
  Side side = Side::server;
};
SpanKey span_key(const ConnectionIdentity& identity, SocketId sock, std::uint64_t position,
                 Side side) noexcept;

SpanId span_id_of(const SpanKey& key) noexcept;
// Of the trace that this span is the root of.
TraceId root_trace_id_of(const SpanKey& key) noexcept;

}  // namespace olly
