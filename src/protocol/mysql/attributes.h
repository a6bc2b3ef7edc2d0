// What a span says of a command (semantic conventions 1.44, "MySQL client operations").
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "protocol/exchange.h"
#include "protocol/mysql/parse.h"

namespace olly::mysql {

inline constexpr std::string_view kMysql = "mysql";
inline constexpr std::string_view kMariadb = "mariadb";

// What is known when a command begins. Views are copied.
struct Request {
  Command command = Command::query;
  std::string_view system = kMysql;
  std::string_view text;     // normalised; empty: none, or not known
  std::string_view summary;  // of `text`
  std::string_view target;   // the database that INIT_DB, CREATE_DB and DROP_DB name
  std::size_t statements = 1;
};
void add_request(Exchange& exchange, const Connection& connection, const Request& request);

void add_namespace(Exchange& exchange, std::string_view database);

// How it ended. error 0: none.
struct Outcome {
  bool has_rows = false;
  std::uint64_t rows = 0;  // of all result sets; where there was none, the rows it changed
  std::uint16_t error = 0;
};
void add_outcome(Exchange& exchange, const Outcome& outcome);

}  // namespace olly::mysql
