// The semantic conventions 1.44 for MongoDB spans ("Database client spans", "MongoDB"): from what
// parse.h read, which is names and numbers only.
#pragma once

#include <cstdint>
#include <string_view>

#include "conntrack/connection.h"
#include "protocol/exchange.h"
#include "protocol/mongodb/parse.h"

namespace olly::mongodb {

// db.system.name, server.*, db.operation.name, db.collection.name, db.namespace and the name. A
// command that could not be read has no operation: its span is called "mongodb".
void add_command(Exchange& exchange, const Connection& connection, const Command& command);

// What the replies said.
struct Outcome {
  bool failed = false;
  std::int64_t code = 0;
  std::uint64_t statements = 0;  // 0 = not known; of one it is not said (the conventions)
  bool returned_known = false;
  std::uint64_t returned = 0;
};
void add_outcome(Exchange& exchange, const Outcome& outcome);

}  // namespace olly::mongodb
