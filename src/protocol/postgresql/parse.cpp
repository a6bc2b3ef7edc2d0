#include "protocol/postgresql/parse.h"

#include <algorithm>
#include <cstring>

namespace olly::postgresql {
namespace {

constexpr std::uint32_t kMaxMessage = 0x3fffffff;  // 1 GiB, PQ_LARGE_MESSAGE_LIMIT
constexpr std::uint64_t kMaxTurnMessage = 65536;   // nobody waits for more to guess a protocol
constexpr std::uint32_t kMaxSmall = 10000;  // PQ_SMALL_MESSAGE_LIMIT, MAX_STARTUP_PACKET_LENGTH

std::uint32_t u32(const std::uint8_t* p) noexcept {
  return std::uint32_t{p[0]} << 24 | std::uint32_t{p[1]} << 16 | std::uint32_t{p[2]} << 8 | p[3];
}
std::uint16_t u16(const std::uint8_t* p) noexcept {
  return static_cast<std::uint16_t>(p[0] << 8 | p[1]);
}

struct Bounds {
  char type;
  std::uint32_t least;  // of the length field, which counts itself
  std::uint32_t most;
};
constexpr Bounds kFrontend[] = {
    {'Q', 5, kMaxMessage},
    {'P', 8, kMaxMessage},
    {'B', 12, kMaxMessage},
    {'E', 9, kMaxSmall},
    {'D', 6, kMaxSmall},
    {'C', 6, kMaxSmall},
    {'S', 4, 4},
    {'H', 4, 4},
    {'X', 4, 4},
    {'d', 4, kMaxMessage},
    {'c', 4, 4},
    {'f', 5, kMaxSmall},
    {'F', 14, kMaxMessage},
    {'p', 4, 65536},
};
constexpr Bounds kBackend[] = {
    {'D', 6, kMaxMessage}, {'C', 5, 1024},        {'Z', 5, 5},           {'T', 6, kMaxMessage},
    {'1', 4, 4},           {'2', 4, 4},           {'3', 4, 4},           {'n', 4, 4},
    {'s', 4, 4},           {'I', 4, 4},           {'t', 6, 262144},      {'E', 5, kMaxMessage},
    {'N', 5, kMaxMessage}, {'S', 6, kMaxMessage}, {'A', 10, 65536},      {'R', 8, 65536},
    {'K', 12, 264},        {'d', 4, kMaxMessage}, {'c', 4, 4},           {'G', 7, 16384},
    {'H', 7, 16384},       {'W', 7, 16384},       {'V', 8, kMaxMessage}, {'v', 12, kMaxSmall},
};

const Bounds* bounds_of(char type, Sender sender) noexcept {
  const Bounds* begin = sender == Sender::frontend ? std::begin(kFrontend) : std::begin(kBackend);
  const Bounds* end = sender == Sender::frontend ? std::end(kFrontend) : std::end(kBackend);
  const Bounds* found = std::find_if(begin, end, [&](const Bounds& b) { return b.type == type; });
  return found == end ? nullptr : found;
}

// Reads a message's body to its end; anything that does not fit makes ok false.
struct Body {
  ByteView rest;
  bool ok = true;
  void skip(std::uint64_t n) noexcept {
    if (n > rest.size())
      ok = false;
    else
      rest = rest.subspan(n);
  }
  std::string_view string() noexcept {
    std::string_view s;
    ok = ok && take_string(rest, s);
    return s;
  }
  std::uint32_t number(std::size_t bytes) noexcept {
    if (rest.size() < bytes) {
      ok = false;
      return 0;
    }
    const std::uint32_t n = bytes == 2 ? u16(rest.data()) : u32(rest.data());
    rest = rest.subspan(bytes);
    return n;
  }
  // Length and bytes; -1 is NULL.
  void value() noexcept {
    const std::uint32_t n = number(4);
    if (n != 0xffffffff) skip(n);
  }
  void values() noexcept {
    for (std::uint32_t n = number(2); ok && n > 0; --n) value();
  }
  bool end() const noexcept { return ok && rest.empty(); }
};

bool is_text(std::string_view s) noexcept {
  return std::all_of(s.begin(), s.end(), [](char c) {
    const auto u = static_cast<unsigned char>(c);
    return (u >= ' ' && u != 0x7f) || c == '\n' || c == '\r' || c == '\t' || c == '\f';
  });
}

bool exact_frontend(char type, Body& b) noexcept {
  switch (type) {
    case 'Q':
      return is_text(b.string()) && b.end();
    case 'P': {
      const bool text = is_text(b.string()) && is_text(b.string());
      b.skip(std::uint64_t{4} * b.number(2));
      return text && b.end();
    }
    case 'B': {
      const bool text = is_text(b.string()) && is_text(b.string());
      b.skip(std::uint64_t{2} * b.number(2));
      b.values();
      b.skip(std::uint64_t{2} * b.number(2));
      return text && b.end();
    }
    case 'E': {
      const bool text = is_text(b.string());
      b.skip(4);
      return text && b.end();
    }
    case 'D':
    case 'C': {
      const char what = b.rest.empty() ? '\0' : static_cast<char>(b.rest[0]);
      b.skip(1);
      return (what == 'S' || what == 'P') && is_text(b.string()) && b.end();
    }
    case 'F':
      b.skip(4);
      b.skip(std::uint64_t{2} * b.number(2));
      b.values();
      b.skip(2);
      return b.end();
    default:
      return type != 'p' && type != 'f';
  }
}

bool exact_backend(char type, Body& b) noexcept {
  switch (type) {
    case 'D':
      b.values();
      return b.end();
    case 'C': {
      const std::string_view tag = b.string();
      return tag.size() >= 2 && tag[0] >= 'A' && tag[0] <= 'Z' && is_text(tag) && b.end();
    }
    case 'Z':
      return b.rest[0] == 'I' || b.rest[0] == 'T' || b.rest[0] == 'E';
    case 'T':
      for (std::uint32_t n = b.number(2); b.ok && n > 0; --n) {
        b.string();
        b.skip(18);
      }
      return b.end();
    case 't':
      b.skip(std::uint64_t{4} * b.number(2));
      return b.end();
    case 'E':
    case 'N':
      while (b.ok && !b.rest.empty() && b.rest[0] != 0) b.string();
      b.skip(1);
      return b.end();
    case 'S':
      return is_text(b.string()) && is_text(b.string()) && b.end();
    case 'A':
      b.skip(4);
      b.string();
      b.string();
      return b.end();
    default:
      return true;
  }
}

}  // namespace

Error parse_header(ByteView bytes, Sender sender, Header& out) noexcept {
  if (bytes.empty()) return Error::incomplete;
  out.type = static_cast<char>(bytes[0]);
  const Bounds* bounds = bounds_of(out.type, sender);
  if (bounds == nullptr) return Error::invalid;
  // The highest byte of a length is at most 0x3f: no need to wait for the others.
  if (bytes.size() > 1 && bytes[1] > 0x3f) return Error::invalid;
  if (bytes.size() < kHeader) return Error::incomplete;
  const std::uint32_t length = u32(bytes.data() + 1);
  if (length < bounds->least || length > bounds->most) return Error::invalid;
  out.size = std::uint64_t{length} + 1;
  return Error::none;
}

bool take_string(ByteView& bytes, std::string_view& out) noexcept {
  const std::string_view text = as_text(bytes);
  const std::size_t end = text.find('\0');
  if (end == std::string_view::npos) return false;
  out = text.substr(0, end);
  bytes = bytes.subspan(end + 1);
  return true;
}

Error parse_first(ByteView bytes, Startup& out) noexcept {
  if (bytes.empty()) return Error::incomplete;
  if (bytes[0] != 0 || (bytes.size() > 1 && bytes[1] != 0)) return Error::invalid;
  if (bytes.size() > 4 && bytes[4] != 0 && bytes[4] != 0x04) return Error::invalid;
  if (bytes.size() < 8) return Error::incomplete;
  const std::uint32_t length = u32(bytes.data());
  const std::uint32_t code = u32(bytes.data() + 4);
  out = {};
  out.size = length;
  if (code == 80877103 || code == 80877104) {
    out.kind = code == 80877103 ? First::ssl : First::gss;
    return length == 8 ? Error::none : Error::invalid;
  }
  if (code == 80877102) {
    out.kind = First::cancel;
    if (length < 16 || length > 268) return Error::invalid;
    return bytes.size() < length ? Error::incomplete : Error::none;
  }
  if (code >> 16 != 3 || length < 9 || length > kMaxSmall) return Error::invalid;
  // Names and values in turn, an empty name ends them.
  ByteView rest = bytes.subspan(8, std::min<std::size_t>(length, bytes.size()) - 8);
  for (;;) {
    std::string_view name;
    std::string_view value;
    if (!take_string(rest, name)) break;
    if (!is_text(name)) return Error::invalid;
    if (name.empty()) {
      if (bytes.size() < length) return Error::invalid;
      if (out.database.empty()) out.database = out.user;
      return rest.empty() && !out.user.empty() ? Error::none : Error::invalid;
    }
    if (!take_string(rest, value)) break;
    if (name == "user") out.user = value;
    if (name == "database") out.database = value;
  }
  if (!is_text(as_text(rest).substr(0, as_text(rest).find('\0')))) return Error::invalid;
  return bytes.size() < length ? Error::incomplete : Error::invalid;
}

bool is_exact(ByteView message, Sender sender) noexcept {
  Header header;
  if (parse_header(message, sender, header) != Error::none || header.size != message.size()) {
    return false;
  }
  Body body{message.subspan(kHeader)};
  return sender == Sender::frontend ? exact_frontend(header.type, body)
                                    : exact_backend(header.type, body);
}

Error parse_turn(ByteView bytes, Sender sender) noexcept {
  const std::string_view ends = sender == Sender::frontend ? "QSF" : "Z";
  bool ended = false;
  bool over = false;
  // A Sync or ReadyForQuery by itself is too little to tell it from other protocols.
  std::size_t least = 2;
  for (std::size_t n = 1; !bytes.empty(); ++n) {
    Header header;
    const Error error = parse_header(bytes, sender, header);
    if (error != Error::none) return error;
    if (header.size > kMaxTurnMessage) return Error::invalid;
    if (header.size > bytes.size()) return Error::incomplete;
    const ByteView message = bytes.first(static_cast<std::size_t>(header.size));
    if (!is_exact(message, sender)) return Error::invalid;
    if (header.type == 'Q' || header.type == 'F') least = 1;
    ended = ends.find(header.type) != std::string_view::npos;
    over = ended && n >= least;
    bytes = bytes.subspan(message.size());
  }
  if (over) return Error::none;
  return ended ? Error::invalid : Error::incomplete;
}

ErrorFields parse_error(ByteView body) noexcept {
  ErrorFields out;
  while (!body.empty() && body[0] != 0) {
    const auto field = static_cast<char>(body[0]);
    body = body.subspan(1);
    std::string_view value;
    if (!take_string(body, value)) break;
    if (field == 'C' && value.size() == 5 && std::all_of(value.begin(), value.end(), [](char c) {
          return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z');
        })) {
      out.code = value;
    }
    // S is in the server's language, V (from 9.6) is not.
    if (field == 'V' || field == 'S') out.fatal = value == "FATAL" || value == "PANIC";
  }
  return out;
}

}  // namespace olly::postgresql
