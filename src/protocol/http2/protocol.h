// HTTP/2, and the gRPC that it carries, as a Protocol. README.md has the wire format in brief.
#pragma once

#include <array>
#include <memory>
#include <span>

#include "protocol/names.h"
#include "protocol/protocol.h"

namespace olly::http2 {

inline constexpr std::array<ProtocolInfo, 2> kInfos = {{
    {"http2", "HTTP/2",
     "h2c by prior knowledge and by upgrade, interleaved streams, HPACK, CONTINUATION, padding, "
     "trailers, 1xx, RST_STREAM, GOAWAY; connections met in their middle",
     "pushed responses; of a connection older than Olly, header fields from before (said to be "
     "unknown) and the exchange that shows what it is; frames "
     "behind the first 1 MiB of one call (with libolly.so: 128 KiB) are lost, and streams say so"},
    {"grpc", "gRPC",
     "unary and streaming calls, message counts, status from trailers, trailers-only or reset, "
     "deadlines",
     "gRPC-Web"},
}};

// `enabled`: by kInfos. With HTTP/2 off and gRPC on, streams that are no calls make no spans, and
// the other way round.
std::unique_ptr<Protocol> make_protocol(std::span<const bool> enabled);

}  // namespace olly::http2
