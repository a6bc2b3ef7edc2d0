#include "protocol/mysql/parse.h"

#include <algorithm>
#include <array>

namespace olly::mysql {
namespace {

constexpr std::uint8_t kNull = 0xfb;
constexpr std::uint8_t kSchemaChange = 1;  // SESSION_TRACK_SCHEMA

std::uint16_t u16(ByteView b, std::size_t at) noexcept {
  return static_cast<std::uint16_t>(b[at] | b[at + 1] << 8);
}
std::uint32_t u32(ByteView b, std::size_t at) noexcept {
  return static_cast<std::uint32_t>(u16(b, at)) | static_cast<std::uint32_t>(u16(b, at + 2)) << 16;
}

// A NUL-terminated text at `at`, which moves behind its NUL.
std::optional<std::string_view> nul_text(ByteView b, std::size_t& at) noexcept {
  if (at > b.size()) return std::nullopt;
  const std::string_view rest = as_text(b.subspan(at));
  const std::size_t nul = rest.find('\0');
  if (nul == std::string_view::npos) return std::nullopt;
  at += nul + 1;
  return rest.substr(0, nul);
}

std::optional<std::string_view> lenenc_text(ByteView b, std::size_t& at) noexcept {
  const std::optional<std::uint64_t> size = lenenc(b, at);
  if (!size || *size > b.size() - at) return std::nullopt;
  const std::string_view text = as_text(b.subspan(at, *size));
  at += *size;
  return text;
}

bool is_version_char(char c) noexcept { return c > ' ' && c < 0x7f; }

char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

bool is_name_char(char c) noexcept {
  return (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z') || c == '_' || c == '$' ||
         static_cast<unsigned char>(c) >= 0x80;
}

bool starts_with_word(std::string_view text, std::string_view word) noexcept {
  if (text.size() < word.size()) return false;
  for (std::size_t i = 0; i < word.size(); ++i) {
    if (lower(text[i]) != word[i]) return false;
  }
  return text.size() == word.size() || !is_name_char(text[word.size()]);
}

std::string_view trim_front(std::string_view text) noexcept {
  const std::size_t at = text.find_first_not_of(" \t\r\n");
  return at == std::string_view::npos ? std::string_view{} : text.substr(at);
}

}  // namespace

PacketHeader packet_header(ByteView b) noexcept {
  return {static_cast<std::uint32_t>(b[0]) | static_cast<std::uint32_t>(b[1]) << 8 |
              static_cast<std::uint32_t>(b[2]) << 16,
          b[3]};
}

std::optional<std::uint64_t> lenenc(ByteView b, std::size_t& at) noexcept {
  if (at >= b.size()) return std::nullopt;
  const std::uint8_t first = b[at];
  if (first < kNull) {
    ++at;
    return first;
  }
  const std::size_t size = first == 0xfc ? 2 : first == 0xfd ? 3 : first == 0xfe ? 8 : 0;
  if (size == 0 || b.size() - at - 1 < size) return std::nullopt;
  std::uint64_t value = 0;
  for (std::size_t i = size; i > 0; --i) value = value << 8 | b[at + i];
  at += 1 + size;
  return value;
}

ParseError parse_greeting(ByteView p, std::uint32_t length, Greeting& out) noexcept {
  if (length < 45 || length > kMaxGreeting) return ParseError::invalid;
  if (!p.empty() && p[0] != 10) return ParseError::invalid;
  // Everything that is there is checked, so that another protocol is not waited for.
  std::size_t at = 1;
  while (at < p.size() && p[at] != 0) {
    if (at > 64 || !is_version_char(static_cast<char>(p[at]))) return ParseError::invalid;
    if (at == 1 && (p[at] < '0' || p[at] > '9')) return ParseError::invalid;
    ++at;
  }
  if (at >= p.size()) return ParseError::incomplete;
  if (at == 1) return ParseError::invalid;
  out.version = as_text(p.subspan(1, at - 1));
  const std::size_t fixed = at + 1;  // of the thread id
  // thread id 4, random 8, filler 1, flags 2, charset 1, status 2, flags 2, random's size 1,
  // reserved 10 (MariaDB: 6, and its flags)
  constexpr std::size_t kFixed = 31;
  if (length < fixed + kFixed) return ParseError::invalid;
  if (p.size() > fixed + 12 && p[fixed + 12] != 0) return ParseError::invalid;
  if (p.size() < length) return ParseError::incomplete;
  const std::uint32_t flags = static_cast<std::uint32_t>(u16(p, fixed + 13)) |
                              static_cast<std::uint32_t>(u16(p, fixed + 18)) << 16;
  if ((flags & capability::kProtocol41) == 0) return ParseError::invalid;
  out.capabilities = flags;
  out.status = u16(p, fixed + 16);
  const std::size_t reserved = fixed + 21;
  if (std::any_of(p.begin() + static_cast<std::ptrdiff_t>(reserved),
                  p.begin() + static_cast<std::ptrdiff_t>(reserved + 6),
                  [](std::uint8_t b) { return b != 0; })) {
    return ParseError::invalid;
  }
  out.mariadb = out.version.find("MariaDB") != std::string_view::npos;
  if ((flags & capability::kMysql) == 0) {
    out.mariadb = true;
    out.capabilities |= static_cast<std::uint64_t>(u32(p, reserved + 6)) << 32;
  }
  return ParseError::none;
}

namespace {

// The database of a login, behind the user's name and the answer to the challenge.
std::string_view login_database(ByteView p, std::uint64_t caps) noexcept {
  std::size_t at = 32;
  if (!nul_text(p, at)) return {};
  if ((caps & capability::kLenencAuth) != 0) {
    if (!lenenc_text(p, at)) return {};
  } else if ((caps & capability::kSecureConnection) != 0) {
    if (at >= p.size() || p[at] > p.size() - at - 1) return {};
    at += 1u + p[at];
  } else if (!nul_text(p, at)) {
    return {};
  }
  if ((caps & capability::kConnectWithDb) == 0) return {};
  const std::optional<std::string_view> name = nul_text(p, at);
  return name && name->size() <= kMaxDatabase ? *name : std::string_view{};
}

}  // namespace

ParseError parse_login(ByteView p, std::uint32_t length, std::uint64_t server,
                       Login& out) noexcept {
  constexpr std::uint32_t kFixed = 32;
  if (length < kFixed) return ParseError::invalid;
  if (p.size() < kFixed) return ParseError::incomplete;
  const std::uint32_t flags = u32(p, 0);
  if ((flags & capability::kProtocol41) == 0) return ParseError::invalid;
  if (std::any_of(p.begin() + 9, p.begin() + 28, [](std::uint8_t b) { return b != 0; })) {
    return ParseError::invalid;
  }
  std::uint64_t caps = flags;
  // Both ends left the bit out: both are of MariaDB's family.
  if (((flags | server) & capability::kMysql) == 0) {
    caps |= static_cast<std::uint64_t>(u32(p, 28)) << 32;
  }
  out.ssl = length == kFixed && (flags & capability::kSsl) != 0;
  out.capabilities = caps & server;
  if (!out.ssl) out.database = login_database(p, caps);
  return ParseError::none;
}

ParseError parse_change_user(ByteView p, std::uint64_t caps, std::string_view& database) noexcept {
  std::size_t at = 1;
  if (!nul_text(p, at)) return ParseError::invalid;
  if ((caps & capability::kSecureConnection) != 0) {
    if (at >= p.size() || p[at] > p.size() - at - 1) return ParseError::invalid;
    at += 1u + p[at];
  } else if (!nul_text(p, at)) {
    return ParseError::invalid;
  }
  const std::optional<std::string_view> name = nul_text(p, at);
  if (!name || name->size() > kMaxDatabase) return ParseError::invalid;
  database = *name;
  return ParseError::none;
}

namespace {

// The schema in what session tracking told: entries of a type and a length-encoded value.
void session_state(ByteView state, Ok& out) noexcept {
  std::size_t at = 0;
  while (at < state.size()) {
    const std::uint8_t type = state[at++];
    const std::optional<std::string_view> value = lenenc_text(state, at);
    if (!value) return;
    if (type != kSchemaChange) continue;
    std::size_t inner = 0;
    const std::optional<std::string_view> name = lenenc_text(as_bytes(*value), inner);
    if (!name || name->size() > kMaxDatabase) continue;
    out.schema_changed = true;
    out.schema = *name;
  }
}

}  // namespace

ParseError parse_ok(ByteView p, bool session_track, Ok& out) noexcept {
  if (p.empty()) return ParseError::incomplete;
  if (p[0] != 0x00 && p[0] != 0xfe) return ParseError::invalid;
  std::size_t at = 1;
  const std::optional<std::uint64_t> rows = lenenc(p, at);
  if (!rows || !lenenc(p, at) || p.size() - at < 4) return ParseError::invalid;
  out.affected_rows = *rows;
  out.status = u16(p, at);
  at += 4;
  if (!session_track || (out.status & status_flag::kSessionStateChanged) == 0) {
    return ParseError::none;
  }
  const bool info = lenenc_text(p, at).has_value();
  const std::optional<std::string_view> state = info ? lenenc_text(p, at) : std::nullopt;
  out.schema_unclear = !state;
  if (state) session_state(as_bytes(*state), out);
  return ParseError::none;
}

ParseError parse_err(ByteView p, Err& out) noexcept {
  if (p.size() < 3) return ParseError::incomplete;
  if (p[0] != 0xff) return ParseError::invalid;
  out.number = u16(p, 1);
  out.progress = out.number == 0xffff;
  if (p.size() >= 9 && p[3] == '#') out.sqlstate = as_text(p.subspan(4, 5));
  return ParseError::none;
}

ParseError parse_column_count(ByteView p, std::uint32_t length, ColumnCount& out) noexcept {
  std::size_t at = 0;
  const std::optional<std::uint64_t> columns = lenenc(p, at);
  // 4096 is the most that a table or a select list may have; more is left to those who allow it.
  if (!columns || *columns == 0 || *columns > 0xffff) return ParseError::invalid;
  out.columns = *columns;
  out.definitions = true;
  if (length == at) return ParseError::none;
  if (length != at + 1 || p.size() < length || p[at] > 1) return ParseError::invalid;
  out.definitions = p[at] == 1;
  return ParseError::none;
}

ParseError parse_prepare_ok(ByteView p, std::uint32_t length, PrepareOk& out) noexcept {
  if (length != 12 && length != 13) return ParseError::invalid;
  if (p.size() < length) return ParseError::incomplete;
  if (p[0] != 0 || p[9] != 0) return ParseError::invalid;
  out.statement = u32(p, 1);
  out.columns = u16(p, 5);
  out.parameters = u16(p, 7);
  out.definitions = length == 12 || p[12] != 0;
  return ParseError::none;
}

Answer answer_of(std::uint8_t command) noexcept {
  switch (static_cast<Command>(command)) {
    case Command::quit:
    case Command::stmt_send_long_data:
    case Command::stmt_close:
      return Answer::none;
    case Command::statistics:
      return Answer::text;
    case Command::query:
    case Command::process_info:
    case Command::stmt_execute:
    case Command::stmt_bulk_execute:
      return Answer::result;
    case Command::field_list:
      return Answer::fields;
    case Command::stmt_prepare:
      return Answer::prepare;
    case Command::stmt_fetch:
      return Answer::rows;
    case Command::change_user:
      return Answer::login;
    case Command::binlog_dump:
    case Command::table_dump:
    case Command::binlog_dump_gtid:
    case Command::clone:
      return Answer::stream;
    case Command::init_db:
    case Command::create_db:
    case Command::drop_db:
    case Command::refresh:
    case Command::shutdown:
    case Command::process_kill:
    case Command::debug:
    case Command::ping:
    case Command::register_slave:
    case Command::stmt_reset:
    case Command::set_option:
    case Command::reset_connection:
      return Answer::simple;
    case Command::sleep:
      break;
  }
  return Answer::unknown;
}

std::string_view name_of(Command command) noexcept {
  switch (command) {
    case Command::init_db:
      return "INIT_DB";
    case Command::field_list:
      return "FIELD_LIST";
    case Command::create_db:
      return "CREATE_DB";
    case Command::drop_db:
      return "DROP_DB";
    case Command::refresh:
      return "REFRESH";
    case Command::shutdown:
      return "SHUTDOWN";
    case Command::statistics:
      return "STATISTICS";
    case Command::process_info:
      return "PROCESS_INFO";
    case Command::process_kill:
      return "PROCESS_KILL";
    case Command::debug:
      return "DEBUG";
    case Command::ping:
      return "PING";
    case Command::change_user:
      return "CHANGE_USER";
    case Command::register_slave:
      return "REGISTER_SLAVE";
    case Command::stmt_prepare:
      return "PREPARE";
    case Command::stmt_execute:
      return "EXECUTE";
    case Command::stmt_bulk_execute:
      return "BULK_EXECUTE";
    case Command::stmt_reset:
      return "RESET";
    case Command::stmt_fetch:
      return "FETCH";
    case Command::set_option:
      return "SET_OPTION";
    case Command::reset_connection:
      return "RESET_CONNECTION";
    default:
      return {};
  }
}

namespace {

// A text's beginning: no control characters but white space.
bool plausible_text(ByteView text) noexcept {
  const std::size_t n = std::min<std::size_t>(text.size(), 64);
  return std::all_of(
      text.begin(), text.begin() + static_cast<std::ptrdiff_t>(n),
      [](std::uint8_t b) { return b >= ' ' ? b != 0x7f : b == '\t' || b == '\n' || b == '\r'; });
}

}  // namespace

bool plausible_command(ByteView p, std::uint32_t length) noexcept {
  if (p.empty() || length == 0) return false;
  const ByteView rest = p.subspan(1);
  switch (static_cast<Command>(p[0])) {
    case Command::quit:
    case Command::statistics:
    case Command::process_info:
    case Command::ping:
    case Command::reset_connection:
    case Command::debug:
      return length == 1;
    case Command::query:
      if (length < 2) return false;
      // Query attributes: how many there are, and that there is one set of them.
      if (rest.size() >= 2 && rest[1] == 1 && rest[0] < 0x20) return true;
      return plausible_text(rest);
    case Command::stmt_prepare:
      return length >= 2 && plausible_text(rest);
    case Command::init_db:
    case Command::create_db:
    case Command::drop_db:
      return length >= 2 && length <= 1 + kMaxDatabase && plausible_text(rest);
    case Command::stmt_close:
    case Command::stmt_reset:
    case Command::process_kill:
      return length == 5;
    case Command::set_option:
      return length == 3;
    case Command::stmt_fetch:
      return length == 9;
    case Command::stmt_send_long_data:
      return length >= 7;
    case Command::stmt_execute:
      if (length < 10) return false;
      return p.size() < 10 || (p[5] < 0x20 && u32(p, 6) == 1);
    case Command::stmt_bulk_execute:
      return length >= 7;
    case Command::field_list:
    case Command::change_user:
      return length >= 2;
    case Command::refresh:
    case Command::shutdown:
      return length <= 2;
    case Command::register_slave:
    case Command::binlog_dump:
    case Command::binlog_dump_gtid:
    case Command::table_dump:
    case Command::clone:
      return true;
    case Command::sleep:
      break;
  }
  return false;
}

namespace {

// How long a parameter's value is (binary protocol), `at` moves behind it.
bool skip_value(ByteView p, std::uint8_t type, std::size_t& at) noexcept {
  constexpr std::uint8_t kFixed[] = {0, 1, 2, 4, 4, 8, 0, 8, 8, 4, 0, 0, 0, 2};
  std::size_t size = 0;
  switch (type) {
    case 1:  // TINY SHORT LONG FLOAT DOUBLE LONGLONG INT24 YEAR
    case 2:
    case 3:
    case 4:
    case 8:
    case 9:
    case 13:
      size = kFixed[type];
      break;
    case 5:
      size = 8;
      break;
    case 6:  // NULL
      break;
    case 7:  // TIMESTAMP DATE TIME DATETIME: a byte says how long
    case 10:
    case 11:
    case 12:
      if (at >= p.size()) return false;
      size = 1u + p[at];
      break;
    default:
      return lenenc_text(p, at).has_value();
  }
  if (size > p.size() - at) return false;
  at += size;
  return true;
}

}  // namespace

std::optional<std::size_t> query_text_at(ByteView p) noexcept {
  constexpr std::size_t kMaxAttributes = 64;
  std::size_t at = 1;
  const std::optional<std::uint64_t> count = lenenc(p, at);
  const std::optional<std::uint64_t> sets = lenenc(p, at);
  if (!count || !sets || *sets != 1 || *count > kMaxAttributes) return std::nullopt;
  if (*count == 0) return at;
  const std::size_t nulls = at;
  at += (*count + 7) / 8;
  if (at >= p.size() || p[at] != 1) return std::nullopt;
  ++at;
  std::array<std::uint8_t, kMaxAttributes> types{};
  for (std::size_t i = 0; i < *count; ++i) {
    if (p.size() - at < 2) return std::nullopt;
    types[i] = p[at];
    at += 2;
    if (!lenenc_text(p, at)) return std::nullopt;
  }
  for (std::size_t i = 0; i < *count; ++i) {
    if ((p[nulls + i / 8] >> (i % 8) & 1) != 0) continue;
    if (!skip_value(p, types[i], at)) return std::nullopt;
  }
  return at;
}

DatabaseEffect database_effect(std::string_view query) noexcept {
  DatabaseEffect out;
  const std::string_view text = trim_front(query);
  if (starts_with_word(text, "use")) {
    std::string_view name = trim_front(text.substr(3));
    const bool quoted = !name.empty() && name.front() == '`';
    if (quoted) name.remove_prefix(1);
    std::size_t end = 0;
    while (end < name.size() && (quoted ? name[end] != '`' : is_name_char(name[end]))) ++end;
    std::string_view rest = name.substr(std::min(end, name.size()));
    if (quoted && !rest.empty()) rest.remove_prefix(1);
    rest = trim_front(rest);
    if (!rest.empty() && rest.front() == ';') rest = trim_front(rest.substr(1));
    if (end > 0 && end <= kMaxDatabase && rest.empty()) {
      out.database = name.substr(0, end);
    } else {
      out.unclear = true;
    }
    return out;
  }
  // Elsewhere in the text: another statement, a comment before it, a database that is dropped. A
  // literal that holds such a word costs no more than a name that is not told.
  const bool certain = text.starts_with("/*") || text.starts_with("--") || text.starts_with("#") ||
                       starts_with_word(text, "drop");
  if (!certain && text.find(';') == std::string_view::npos) return out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (i > 0 && is_name_char(text[i - 1])) continue;
    const std::string_view rest = text.substr(i);
    if (starts_with_word(rest, "use") || starts_with_word(rest, "database") ||
        starts_with_word(rest, "schema")) {
      (certain ? out.unclear : out.if_several) = true;
      return out;
    }
  }
  return out;
}

}  // namespace olly::mysql
