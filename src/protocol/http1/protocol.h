// HTTP/1.0 and 1.1 as a Protocol. README.md has the wire format in brief.
#pragma once

#include <memory>

#include "protocol/names.h"
#include "protocol/protocol.h"

namespace olly::http1 {

inline constexpr ProtocolInfo kInfo{
    "http", "HTTP/1.0 and 1.1",
    "pipelining, keep-alive, chunked bodies with trailers, 1xx, HEAD, 204, 304, upgrades, CONNECT, "
    "gaps, smuggling-shaped messages",
    "what follows an upgrade (the handshake is a span), HTTP/2 aside"};

std::unique_ptr<Protocol> make_protocol();

}  // namespace olly::http1
