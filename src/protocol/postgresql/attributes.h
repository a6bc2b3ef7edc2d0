// The attributes of a PostgreSQL exchange (semantic conventions 1.44, "PostgreSQL").
#pragma once

#include <cstdint>
#include <string_view>

#include "conntrack/connection.h"
#include "protocol/exchange.h"
#include "protocol/sql/sql.h"

namespace olly::postgresql {

inline constexpr std::string_view kSystem = "postgresql";

// `query` null: its text is not known. `database` empty: not known.
void add_request(Exchange& exchange, const Connection& connection, std::string_view database,
                 const sql::Query* query);
// A FunctionCall, which has no text.
void add_function(Exchange& exchange, const Connection& connection, std::string_view database);

struct Outcome {
  std::string_view code;        // SQLSTATE of an ErrorResponse; empty: there was none
  std::string_view error_type;  // without an answer
  std::int64_t rows = -1;       // negative: no result
};
void add_outcome(Exchange& exchange, const Outcome& outcome);

}  // namespace olly::postgresql
