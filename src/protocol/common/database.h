// What the spans of all databases share (semantic conventions 1.44, "Database client spans"; the
// server's own side gets the same attributes).
#pragma once

#include <string_view>

#include "protocol/common/endpoints.h"
#include "protocol/exchange.h"

namespace olly {

// db.system.name, server.*, network.peer.* and, on the serving side, client.address. First of all.
void add_database(Exchange& exchange, const Connection& connection, std::string_view system);

// The server refused: db.response.status_code and error.type are `code`, the span's status is
// error. Messages of servers quote what they were sent, so none leaves.
void add_database_error(Exchange& exchange, std::string_view code);

// There was no answer: error.type alone (protocol/common/ending.h has the words).
void add_no_answer(Exchange& exchange, std::string_view error_type);

}  // namespace olly
