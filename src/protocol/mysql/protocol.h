// MySQL's and MariaDB's protocol as a Protocol. README.md has the wire format in brief.
#pragma once

#include <memory>

#include "protocol/names.h"
#include "protocol/protocol.h"

namespace olly::mysql {

inline constexpr ProtocolInfo kInfo{
    "mysql", "MySQL and MariaDB",
    "text and prepared statements (also MariaDB's bulk and direct execution), pipelining, multiple "
    "result sets, cursors, both EOF forms, metadata caching, query attributes, LOCAL INFILE, "
    "packets of 16 MiB and more, compression, the current database, errors, row counts. "
    "caching_sha2, query attributes and zstd are tested with recordings only",
    "TLS of libraries that are not covered, and replication (their bytes are counted); compressed "
    "connections that are older than Olly; the exchange with which a connection that is older than "
    "Olly is understood"};

std::unique_ptr<Protocol> make_protocol();

}  // namespace olly::mysql
