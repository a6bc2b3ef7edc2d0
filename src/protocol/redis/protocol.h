// Redis (RESP2 and RESP3) as a Protocol. README.md has the wire format in brief.
#pragma once

#include <memory>

#include "protocol/names.h"
#include "protocol/protocol.h"

namespace olly::redis {

inline constexpr ProtocolInfo kInfo{
    "redis", "Redis (RESP2, RESP3)",
    "all types of RESP2 and RESP3, inline commands, pipelines (a span per command), MULTI/EXEC (a "
    "span per queued command and one for EXEC), scripts, blocking commands, pub/sub and "
    "client-side "
    "caching (pushes are no replies), CLIENT REPLY, SELECT, errors by prefix",
    "pushed messages (no spans), MONITOR's and replication's streams (their commands are spans), "
    "subscriptions within MULTI; what of one call lies beyond 64 KiB, other "
    "than the inside of a value, is lost; joined connections are read after a pause of 20 ms"};

std::unique_ptr<Protocol> make_protocol();

}  // namespace olly::redis
