// MySQL's client/server protocol, as pure functions over one packet's payload (the 4 bytes of its
// header taken off). Sources: "MySQL Client/Server Protocol" (MySQL source documentation) and
// "MariaDB Client/Server Protocol" (MariaDB documentation); README.md names the pages.
//
// A packet: 3 bytes length (little endian), 1 byte sequence id, payload. A length of 0xffffff says
// that the next packet continues it. Views point into the input. Nothing here allocates or throws.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/bytes.h"

namespace olly::mysql {

inline constexpr std::size_t kHeaderSize = 4;
inline constexpr std::uint32_t kMaxPacket = 0xffffff;
// A greeting and the beginning of a login are never longer: both are looked at as a whole.
inline constexpr std::size_t kMaxGreeting = 512;
inline constexpr std::size_t kMaxDatabase = 256;  // 64 characters of at most 4 bytes

// Capability flags; MariaDB's own are the upper 32 bits.
namespace capability {
inline constexpr std::uint64_t kMysql = 1;  // not set: the server is MariaDB and has extended flags
inline constexpr std::uint64_t kConnectWithDb = 1u << 3;
inline constexpr std::uint64_t kCompress = 1u << 5;
inline constexpr std::uint64_t kProtocol41 = 1u << 9;
inline constexpr std::uint64_t kSsl = 1u << 11;
inline constexpr std::uint64_t kSecureConnection = 1u << 15;
inline constexpr std::uint64_t kPluginAuth = 1u << 19;
inline constexpr std::uint64_t kLenencAuth = 1u << 21;
inline constexpr std::uint64_t kSessionTrack = 1u << 23;
inline constexpr std::uint64_t kDeprecateEof = 1u << 24;
inline constexpr std::uint64_t kOptionalMetadata = 1u << 25;  // MySQL
inline constexpr std::uint64_t kZstd = 1u << 26;
inline constexpr std::uint64_t kQueryAttributes = 1u << 27;
inline constexpr std::uint64_t kProgress = std::uint64_t{1} << 32;       // MariaDB from here
inline constexpr std::uint64_t kCacheMetadata = std::uint64_t{1} << 36;  // MariaDB 10.6
}  // namespace capability

// Of the status flags in OK and EOF.
namespace status_flag {
inline constexpr std::uint16_t kMoreResults = 0x0008;
inline constexpr std::uint16_t kCursorExists = 0x0040;
inline constexpr std::uint16_t kNoBackslashEscapes = 0x0200;
inline constexpr std::uint16_t kSessionStateChanged = 0x4000;
}  // namespace status_flag

enum class ParseError : std::uint8_t {
  none,
  incomplete,  // goes on behind the bytes
  invalid,     // is not what was asked for
};

struct PacketHeader {
  std::uint32_t length = 0;
  std::uint8_t sequence = 0;
};

// `bytes` holds at least kHeaderSize.
PacketHeader packet_header(ByteView bytes) noexcept;

// A length-encoded integer at `at`, which moves behind it. Nothing: cut off, or NULL (0xfb) and
// 0xff, which are no integers.
std::optional<std::uint64_t> lenenc(ByteView bytes, std::size_t& at) noexcept;

// Protocol::HandshakeV10. `payload` may be its beginning; `length` is the whole payload's.
struct Greeting {
  std::string_view version;
  std::uint64_t capabilities = 0;
  std::uint16_t status = 0;
  bool mariadb = false;
};
ParseError parse_greeting(ByteView payload, std::uint32_t length, Greeting& out) noexcept;

// Protocol::HandshakeResponse41 or Protocol::SSLRequest. No credentials are in it.
struct Login {
  std::uint64_t capabilities = 0;
  bool ssl = false;  // SSLRequest: TLS follows
  std::string_view database;
};
ParseError parse_login(ByteView payload, std::uint32_t length, std::uint64_t server_capabilities,
                       Login& out) noexcept;

// COM_CHANGE_USER's database. `capabilities` as negotiated.
ParseError parse_change_user(ByteView payload, std::uint64_t capabilities,
                             std::string_view& database) noexcept;

// OK_Packet, also in its form with the header 0xfe that ends rows. Needs CLIENT_PROTOCOL_41.
struct Ok {
  std::uint64_t affected_rows = 0;
  std::uint16_t status = 0;
  bool schema_changed = false;  // session tracking said so
  std::string_view schema;      // empty: none is selected
  bool schema_unclear = false;  // it said something that does not end within the bytes
};
// `session_track`: CLIENT_SESSION_TRACK was negotiated, so session state may follow.
ParseError parse_ok(ByteView payload, bool session_track, Ok& out) noexcept;

// ERR_Packet: the number, and the SQLSTATE if it has one. Its message quotes what was sent: never
// looked at.
struct Err {
  std::uint16_t number = 0;
  std::string_view sqlstate;
  bool progress = false;  // MariaDB: a progress report, not an end
};
ParseError parse_err(ByteView payload, Err& out) noexcept;

// EOF_Packet: 0xfe, 2 bytes warnings, 2 bytes status.
inline constexpr std::uint32_t kEofSize = 5;
inline bool is_eof(ByteView payload, std::uint32_t length) noexcept {
  return length == kEofSize && payload.size() == kEofSize && payload[0] == 0xfe;
}
inline std::uint16_t eof_status(ByteView payload) noexcept {
  return static_cast<std::uint16_t>(payload[3] | payload[4] << 8);
}

// The first packet of a result set: how many columns, and whether their definitions follow (both
// CLIENT_OPTIONAL_RESULTSET_METADATA and MARIADB_CLIENT_CACHE_METADATA put a byte behind the
// count). The packet holds nothing else, which is checked.
struct ColumnCount {
  std::uint64_t columns = 0;
  bool definitions = true;
};
ParseError parse_column_count(ByteView payload, std::uint32_t length, ColumnCount& out) noexcept;

// COM_STMT_PREPARE_OK.
struct PrepareOk {
  std::uint32_t statement = 0;
  std::uint16_t columns = 0;
  std::uint16_t parameters = 0;
  bool definitions = true;
};
ParseError parse_prepare_ok(ByteView payload, std::uint32_t length, PrepareOk& out) noexcept;

enum class Command : std::uint8_t {
  sleep = 0x00,
  quit = 0x01,
  init_db = 0x02,
  query = 0x03,
  field_list = 0x04,
  create_db = 0x05,
  drop_db = 0x06,
  refresh = 0x07,
  shutdown = 0x08,
  statistics = 0x09,
  process_info = 0x0a,
  process_kill = 0x0c,
  debug = 0x0d,
  ping = 0x0e,
  change_user = 0x11,
  binlog_dump = 0x12,
  table_dump = 0x13,
  register_slave = 0x15,
  stmt_prepare = 0x16,
  stmt_execute = 0x17,
  stmt_send_long_data = 0x18,
  stmt_close = 0x19,
  stmt_reset = 0x1a,
  set_option = 0x1b,
  stmt_fetch = 0x1c,
  binlog_dump_gtid = 0x1e,
  reset_connection = 0x1f,
  clone = 0x20,
  stmt_bulk_execute = 0xfa,  // MariaDB
};

// What the server sends back.
enum class Answer : std::uint8_t {
  none,     // nothing at all
  simple,   // one packet: OK, EOF or ERR
  text,     // one packet of text: COM_STATISTICS
  result,   // OK, ERR, LOCAL INFILE, or result sets
  fields,   // column definitions up to an EOF
  prepare,  // COM_STMT_PREPARE_OK and definitions
  rows,     // rows without a head: COM_STMT_FETCH
  login,    // authentication once more
  stream,   // replication: nothing that could be read from here on
  unknown,  // no such command
};
Answer answer_of(std::uint8_t command) noexcept;
// "PING": the protocol's own word without COM_ and STMT_. Empty for COM_QUERY and unknown ones.
std::string_view name_of(Command command) noexcept;

// Could a client have sent this? `payload` may be the beginning of what is `length` long. False
// positives are possible; a real command is never refused.
bool plausible_command(ByteView payload, std::uint32_t length) noexcept;

// Where the text of a COM_QUERY begins (its payload has the command byte in front), when query
// attributes may precede it (CLIENT_QUERY_ATTRIBUTES). Nothing: it cannot be told from these bytes.
std::optional<std::size_t> query_text_at(ByteView payload) noexcept;

// What a query may do to the current database, for sessions that do not track it.
struct DatabaseEffect {
  bool unclear = false;       // it may have changed
  bool if_several = false;    // it may have, if the text is several statements (their results tell)
  std::string_view database;  // `USE name` and nothing else: that one, as written between quotes
};
DatabaseEffect database_effect(std::string_view query) noexcept;

}  // namespace olly::mysql
