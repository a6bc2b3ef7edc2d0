// PostgreSQL's messages as bytes (PostgreSQL documentation, "Frontend/Backend Protocol", Message
// Formats). Pure functions over views: nothing is allocated, nothing is kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"

namespace olly::postgresql {

enum class Sender : std::uint8_t { frontend, backend };

enum class Error : std::uint8_t {
  none,
  incomplete,  // the bytes end too early
  invalid,
};

// Type and length, in front of every message but the first of a connection.
inline constexpr std::size_t kHeader = 5;

struct Header {
  char type = 0;
  std::uint64_t size = 0;  // of the whole message, type and length included
};
// Refuses types that this sender does not have, and lengths that the type cannot have.
Error parse_header(ByteView bytes, Sender sender, Header& out) noexcept;

// The first message: it has no type.
enum class First : std::uint8_t { startup, ssl, gss, cancel };
struct Startup {
  First kind = First::startup;
  std::size_t size = 0;
  std::string_view user;
  std::string_view database;  // the user's name, if none was given
};
Error parse_first(ByteView bytes, Startup& out) noexcept;

// A whole message of which every byte is as its type wants it. For detection: what is longer than
// the view is refused.
bool is_exact(ByteView message, Sender sender) noexcept;

// Whole messages to the end of the view, the last of which ends a turn: Query, Sync or FunctionCall
// of the frontend, ReadyForQuery of the backend. A Sync or ReadyForQuery alone is refused.
Error parse_turn(ByteView bytes, Sender sender) noexcept;

// NUL-terminated strings behind a header: takes the first off `bytes`. False: it does not end
// there.
bool take_string(ByteView& bytes, std::string_view& out) noexcept;

// SQLSTATE and severity of an ErrorResponse's body, which may be cut off; the code is empty when it
// has none.
struct ErrorFields {
  std::string_view code;
  bool fatal = false;  // the server closes the connection: it may have come unasked
};
ErrorFields parse_error(ByteView body) noexcept;

}  // namespace olly::postgresql
