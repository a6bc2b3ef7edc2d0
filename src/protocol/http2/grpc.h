// gRPC over HTTP/2 (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md) and what the
// semantic conventions 1.44 for RPC make of it.
#pragma once

#include <cstdint>
#include <string_view>

#include "protocol/exchange.h"
#include "protocol/http2/head.h"

namespace olly::http2 {

inline constexpr std::uint8_t kMessagePrefix = 5;  // compressed flag, length

// Length-prefixed messages of one direction of one stream: how many there were. They cross the
// borders of DATA frames at will.
struct MessageCounter {
  std::uint64_t messages = 0;  // whose prefix is complete
  std::uint32_t left = 0;      // bytes of the message under way that have not passed
  std::uint32_t length = 0;    // read from the prefix so far
  std::uint8_t prefix = 0;     // bytes of the prefix read so far
  bool known = true;           // false: bytes were lost, or it is no such framing

  // Reads prefixes off the front of `data`, until a message has bytes or nothing is left.
  void take(ByteView& data) noexcept;
};

// A call, as far as it came.
struct GrpcOutcome {
  int status = -1;             // -1: none is known
  AttributeList::Text method;  // :path without its first '/'; size 0 = not known
  Nanos timeout = 0;           // 0 = none
  const MessageCounter* request = nullptr;
  const MessageCounter* response = nullptr;
  std::string_view error_type;  // when there is no status; static
};

// rpc.system.name, server.*, network.peer.*, trace context, the name. Returns the method, which
// becomes an attribute when the outcome says whether the server knows it.
AttributeList::Text add_grpc_request(Exchange& exchange, const Connection& connection,
                                     const Head& head);
void add_grpc_outcome(Exchange& exchange, const GrpcOutcome& outcome);

// Of a response that has no grpc-status (doc/http-grpc-status-mapping.md).
int grpc_status_of_http(int status) noexcept;
// Of RST_STREAM (PROTOCOL-HTTP2.md, "Errors").
int grpc_status_of_reset(std::uint32_t code) noexcept;
inline constexpr int kGrpcCancelled = 1;
inline constexpr int kGrpcUnknown = 2;
inline constexpr int kGrpcDeadlineExceeded = 4;
inline constexpr int kGrpcUnimplemented = 12;
inline constexpr int kGrpcUnavailable = 14;

}  // namespace olly::http2
