// PostgreSQL's protocol 3.0 and 3.2 as a Protocol. README.md has the wire format in brief.
#pragma once

#include <memory>

#include "protocol/names.h"
#include "protocol/protocol.h"

namespace olly::postgresql {

inline constexpr ProtocolInfo kInfo{
    "postgresql", "PostgreSQL (protocol 3.0 and 3.2)",
    "simple and extended queries, pipelines, prepared statements, portals, COPY, errors, function "
    "calls, connections met in their middle",
    "GSSAPI encryption, TLS of libraries that are not covered, replication streams, the text of "
    "statements prepared before Olly came"};

std::unique_ptr<Protocol> make_protocol();

}  // namespace olly::postgresql
