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
    "packets of 16 MiB and more, the current database, errors, row counts. caching_sha2 and query "
    "attributes are tested with recordings only",
    "TLS, compressed connections and replication (their bytes are counted); the exchange with "
    "which "
    "a connection that is older than Olly is understood"};

std::unique_ptr<Protocol> make_protocol();

}  // namespace olly::mysql
