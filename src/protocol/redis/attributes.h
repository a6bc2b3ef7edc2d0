// The semantic conventions 1.44 for Redis spans.
#pragma once

#include <string_view>

#include "conntrack/connection.h"
#include "protocol/exchange.h"
#include "protocol/redis/text.h"

namespace olly::redis {

inline constexpr std::string_view kSystem = "redis";

// Once the command's name is known: db.system.name, server.*, network.peer.*, db.operation.name and
// the span's name, which is the command as sent. `by_line`: it came as an inline command; unknown
// words of those may be anything somebody typed, so they are not kept.
void add_command(Exchange& exchange, const Connection& connection, const CommandText& text,
                 bool by_line);
// Once it is whole.
void add_text(Exchange& exchange, const CommandText& text, bool by_line);
// db.namespace, the index of the selected database.
void add_namespace(Exchange& exchange, int database);
// The server said no. `code`: the error's first word, empty when that is no code. A command that
// Redis did not know either gives the span no name.
void add_refusal(Exchange& exchange, std::string_view code, bool known);

}  // namespace olly::redis
