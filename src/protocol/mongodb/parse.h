// Messages of the MongoDB wire protocol: pure functions over bytes, nothing is allocated.
//
// Of a message only its first kMaxRead bytes are read; what is said of it then is what they show.
// Nothing of a command but its name, its collection's name, its database's name and the number of
// its statements leaves these functions: no value of a filter, no document, no credential.
// Source: the MongoDB manual, "MongoDB Wire Protocol", and the drivers' "OP_MSG" and
// "Wire Compression" specifications.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/bytes.h"

namespace olly::mongodb {

// As much as the kernel copies of a call by default: a command's fields are its first ones, long
// values apart, and an error is a short reply.
inline constexpr std::size_t kMaxRead = 4096;
inline constexpr std::size_t kHeader = 16;
// The server's limit (maxMessageSizeBytes, 48,000,000) and a margin for a command around documents.
inline constexpr std::uint32_t kMaxMessage = 48'000'000 + 64 * 1024;
// Names longer than this are none (the server's limit for a whole namespace is 255).
inline constexpr std::size_t kMaxName = 255;

enum class Opcode : std::int32_t {
  reply = 1,
  update = 2001,
  insert = 2002,
  query = 2004,
  get_more = 2005,
  remove = 2006,
  kill_cursors = 2007,
  compressed = 2012,
  message = 2013,
};

struct Header {
  std::uint32_t length = 0;  // of the whole message, this header included
  std::int32_t id = 0;
  std::int32_t response_to = 0;
  Opcode opcode = Opcode::message;
};

enum class Start : std::uint8_t { no, need_more, yes };

// Whether the bytes begin with a header: need_more as long as they could.
Start look_at_header(ByteView bytes, Header& header) noexcept;
// Whether they begin with a message, by all that its first kDetect bytes show: flags, section
// kinds, lengths within lengths, BSON types, printable names. What is no message does not get
// through by chance.
inline constexpr std::size_t kDetect = 128;
Start look_at_message(ByteView bytes, Header& header) noexcept;

enum class MessageError : std::uint8_t {
  none,
  unreadable,  // valid as far as it can be read, but what is wanted lies behind
  invalid,
};

struct Command {
  std::string_view operation;  // as sent; empty: not known
  std::string_view collection;
  std::string_view database;
  std::uint64_t statements = 0;  // of insert, update, delete and bulkWrite; 0 = not known, or other
  bool handshake = false;        // hello and authentication: of the driver, not of the program
  bool no_reply = false;         // moreToCome, and the legacy writes
  bool insert = false;           // its reply counts what was inserted
  bool find = false;             // a legacy query or getMore: its reply's documents are data
  bool exhaust = false;          // a legacy query whose replies follow each other by themselves
};

// `body` is what follows the header, as far as it was read; `size` is its whole length. The views
// are of `body`.
MessageError parse_command(Opcode opcode, ByteView body, std::size_t size,
                           Command& command) noexcept;

struct Reply {
  bool failed = false;    // ok: 0, a write error, a write concern error, or a legacy failure
  std::int64_t code = 0;  // 0 = none was given
  bool more_to_come = false;
  bool cursor_open = false;               // a legacy reply's cursor has more
  std::optional<std::uint64_t> returned;  // documents of the batch
  std::optional<std::int64_t> n;          // of a write
};

// `command`: it answers a command (OP_MSG, or OP_QUERY of a `$cmd`); else its documents are data.
MessageError parse_reply(Opcode opcode, ByteView body, std::size_t size, bool command,
                         Reply& reply) noexcept;

// OP_COMPRESSED.
struct Compressed {
  Opcode opcode = Opcode::message;
  std::uint32_t size = 0;  // uncompressed
  std::uint8_t compressor = 0;
  ByteView bytes;  // as far as they were read
};
inline constexpr std::size_t kCompressedHeader = 9;
MessageError parse_compressed(ByteView body, Compressed& out) noexcept;

}  // namespace olly::mongodb
