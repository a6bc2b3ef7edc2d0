// The MongoDB wire protocol as a Protocol. README.md has the wire format in brief.
#pragma once

#include <memory>

#include "protocol/names.h"
#include "protocol/protocol.h"

namespace olly::mongodb {

inline constexpr ProtocolInfo kInfo{
    "mongodb", "MongoDB",
    "OP_MSG with all kinds of sections, checksums, unacknowledged writes (moreToCome); replies "
    "paired by id; errors, write errors, write concern errors; batch sizes; OP_QUERY, OP_REPLY and "
    "the other operations before 5.1; exhaust streams (one span) and OP_COMPRESSED with snappy, "
    "zlib and zstd (these by recordings only: no server of the tests speaks them)",
    "hello and authentication (no span, never looked into); query text (the conventions list "
    "none); the database's name behind 4 KiB of a command; zstd whose first block is longer than "
    "what is captured of a call (a span without an operation); TLS of libraries that "
    "are not covered"};

std::unique_ptr<Protocol> make_protocol();

}  // namespace olly::mongodb
