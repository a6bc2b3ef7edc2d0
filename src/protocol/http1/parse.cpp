#include "protocol/http1/parse.h"

#include <cstring>

#include "protocol/http1/scan.h"

namespace olly::http1 {
namespace {

constexpr std::uint64_t kMaxLength = (std::uint64_t{1} << 63) - 1;

inline std::string_view view(const std::uint8_t* begin, const std::uint8_t* end) noexcept {
  return {reinterpret_cast<const char*>(begin), static_cast<std::size_t>(end - begin)};
}

inline char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

std::string_view trim(std::string_view text) noexcept {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// Calls fn(element) for each non-empty element of a comma-separated list (RFC 9110 5.6.1).
template <class Fn>
void for_each_element(std::string_view list, Fn fn) noexcept {
  while (!list.empty()) {
    const std::size_t comma = list.find(',');
    const std::string_view element = trim(list.substr(0, comma));
    if (!element.empty()) fn(element);
    if (comma == std::string_view::npos) return;
    list.remove_prefix(comma + 1);
  }
}

// RFC 9110 8.6: a number, or a list of the same number (then it counts once).
void add_content_length(Fields& f, std::string_view value) noexcept {
  bool any = false;
  for_each_element(value, [&](std::string_view element) {
    any = true;
    std::uint64_t number = 0;
    for (const char c : element) {
      if (c < '0' || c > '9' || number > (kMaxLength - static_cast<std::uint64_t>(c - '0')) / 10) {
        f.bad_length = true;
        return;
      }
      number = number * 10 + static_cast<std::uint64_t>(c - '0');
    }
    if (f.has_length && f.content_length != number) f.bad_length = true;
    f.has_length = true;
    f.content_length = number;
  });
  if (!any) f.bad_length = true;
}

void add_transfer_encoding(Fields& f, std::string_view value) noexcept {
  f.has_transfer_encoding = true;
  bool any = false;
  for_each_element(value, [&](std::string_view element) {
    any = true;
    if (f.chunked) f.bad_transfer_encoding = true;  // chunked was not the last
    if (iequals(element, "chunked")) f.chunked = true;
  });
  if (!any) f.bad_transfer_encoding = true;
}

void add_connection(Fields& f, std::string_view value) noexcept {
  for_each_element(value, [&](std::string_view element) {
    if (iequals(element, "upgrade")) f.connection_upgrade = true;
  });
}

inline void set_first(std::string_view& field, std::string_view value) noexcept {
  if (field.data() == nullptr) field = value;
}

// `name` is a token as long as `lower_case`, which is letters and '-': no token character but the
// upper-case letter becomes one of these by bit 0x20.
template <std::size_t N>
inline bool is_name(std::string_view name, const char (&lower_case)[N]) noexcept {
  unsigned different = 0;
  for (std::size_t i = 0; i + 1 < N; ++i) {
    different |=
        (static_cast<unsigned char>(name[i]) | 0x20u) ^ static_cast<unsigned char>(lower_case[i]);
  }
  return different == 0;
}

void add_field(Fields& f, std::string_view name, std::string_view value) noexcept {
  switch (name.size()) {
    case 4:
      if (is_name(name, "host")) {
        if (f.host_count < 255) ++f.host_count;
        set_first(f.host, value);
      }
      return;
    case 7:
      if (is_name(name, "upgrade")) f.has_upgrade = true, set_first(f.upgrade, value);
      return;
    case 9:
      if (is_name(name, "forwarded")) set_first(f.forwarded, value);
      return;
    case 10:
      switch (lower(name[0])) {
        case 'c':
          if (is_name(name, "connection")) add_connection(f, value);
          return;
        case 'u':
          if (is_name(name, "user-agent")) set_first(f.user_agent, value);
          return;
        case 't':
          if (is_name(name, "tracestate")) {
            if (f.tracestate_count < f.tracestate.size()) f.tracestate[f.tracestate_count] = value;
            if (f.tracestate_count < 255) ++f.tracestate_count;
          }
          return;
        default:
          return;
      }
    case 11:
      if (is_name(name, "traceparent")) {
        if (f.traceparent_count < 255) ++f.traceparent_count;
        set_first(f.traceparent, value);
      }
      return;
    case 14:
      if (is_name(name, "content-length")) add_content_length(f, value);
      return;
    case 15:
      if (is_name(name, "x-forwarded-for")) set_first(f.x_forwarded_for, value);
      return;
    case 17:
      if (is_name(name, "transfer-encoding"))
        add_transfer_encoding(f, value);
      else if (is_name(name, "x-forwarded-proto"))
        set_first(f.x_forwarded_proto, value);
      return;
    default:
      return;
  }
}

// At `p`: CRLF or LF. Moves behind it. `incomplete` when the bytes end, bare_cr for CR + other.
inline HeadError take_line_end(const std::uint8_t*& p, const std::uint8_t* end) noexcept {
  if (p == end) return HeadError::incomplete;
  if (*p == '\n') {
    ++p;
    return HeadError::none;
  }
  if (p + 1 == end) return HeadError::incomplete;
  if (p[1] != '\n') return HeadError::bare_cr;
  p += 2;
  return HeadError::none;
}

inline bool at_line_end(const std::uint8_t* p) noexcept { return *p == '\r' || *p == '\n'; }

HeadError take_field(const std::uint8_t*& p, const std::uint8_t* end, Fields* fields) noexcept {
  if (*p == ' ' || *p == '\t') return HeadError::folded;
  const std::uint8_t* name = p;
  p = skip_token(p, end);
  if (p == end) return HeadError::incomplete;
  if (*p != ':') {
    if (p == name) return HeadError::bad_name;
    if (*p == ' ' || *p == '\t') return HeadError::space_before_colon;
    return at_line_end(p) ? HeadError::no_colon : HeadError::bad_name;
  }
  if (p == name) return HeadError::bad_name;
  const std::string_view name_text = view(name, p);
  ++p;
  while (p < end && (*p == ' ' || *p == '\t')) ++p;
  const std::uint8_t* value = p;
  p = skip_value(p, end);
  if (p == end) return HeadError::incomplete;
  if (!at_line_end(p)) return HeadError::bad_value;
  const std::uint8_t* value_end = p;
  while (value_end > value && (value_end[-1] == ' ' || value_end[-1] == '\t')) --value_end;
  const HeadError error = take_line_end(p, end);
  if (error != HeadError::none) return error;
  if (fields != nullptr) add_field(*fields, name_text, view(value, value_end));
  return HeadError::none;
}

// Field lines up to and with the empty line.
HeadError take_fields(const std::uint8_t*& p, const std::uint8_t* end, Fields* fields) noexcept {
  for (;;) {
    if (p == end) return HeadError::incomplete;
    if (at_line_end(p)) return take_line_end(p, end);
    const HeadError error = take_field(p, end, fields);
    if (error != HeadError::none) return error;
  }
}

// "HTTP/1.<digit>"
HeadError take_version(const std::uint8_t*& p, const std::uint8_t* end,
                       std::uint8_t& minor) noexcept {
  static constexpr std::string_view kPrefix = "HTTP/1.";
  for (const char c : kPrefix) {
    if (p == end) return HeadError::incomplete;
    if (*p != static_cast<std::uint8_t>(c)) return HeadError::bad_version;
    ++p;
  }
  if (p == end) return HeadError::incomplete;
  if (*p < '0' || *p > '9') return HeadError::bad_version;
  minor = static_cast<std::uint8_t>(*p++ - '0');
  return HeadError::none;
}

HeadError take_request_line(const std::uint8_t*& p, const std::uint8_t* end,
                            RequestHead& out) noexcept {
  const std::uint8_t* method = p;
  p = skip_token(p, end);
  if (p == end) return HeadError::incomplete;
  if (*p != ' ' || p == method) return HeadError::bad_method;
  out.method = view(method, p);
  const std::uint8_t* target = ++p;
  p = skip_target(p, end);
  if (p == end) return HeadError::incomplete;
  if (*p != ' ' || p == target) return HeadError::bad_target;
  out.target = view(target, p);
  ++p;
  const HeadError error = take_version(p, end, out.minor_version);
  if (error != HeadError::none) return error;
  if (p == end) return HeadError::incomplete;
  if (!at_line_end(p)) return HeadError::bad_version;
  return take_line_end(p, end);
}

HeadError take_status_line(const std::uint8_t*& p, const std::uint8_t* end,
                           ResponseHead& out) noexcept {
  const HeadError error = take_version(p, end, out.minor_version);
  if (error != HeadError::none) return error;
  if (p == end) return HeadError::incomplete;
  if (*p != ' ') return HeadError::bad_version;
  ++p;
  unsigned status = 0;
  for (int i = 0; i < 3; ++i, ++p) {
    if (p == end) return HeadError::incomplete;
    if (*p < '0' || *p > '9') return HeadError::bad_status;
    status = status * 10 + static_cast<unsigned>(*p - '0');
  }
  if (status < 100) return HeadError::bad_status;
  out.status = static_cast<std::uint16_t>(status);
  if (p == end) return HeadError::incomplete;
  if (*p == ' ') {
    p = skip_value(p, end);
    if (p == end) return HeadError::incomplete;
    if (!at_line_end(p)) return HeadError::bad_reason;
  } else if (!at_line_end(p)) {
    return HeadError::bad_status;
  }
  return take_line_end(p, end);
}

HeadError limited(HeadError error, std::size_t size) noexcept {
  const bool too_large = error == HeadError::incomplete
                             ? size >= kMaxHead
                             : error == HeadError::none && size > kMaxHead;
  return too_large ? HeadError::too_large : error;
}

}  // namespace

std::string_view to_string(HeadError error) noexcept {
  switch (error) {
    case HeadError::none:
      return "none";
    case HeadError::incomplete:
      return "incomplete";
    case HeadError::bad_method:
      return "bad_method";
    case HeadError::bad_target:
      return "bad_target";
    case HeadError::bad_version:
      return "bad_version";
    case HeadError::bad_status:
      return "bad_status";
    case HeadError::bad_reason:
      return "bad_reason";
    case HeadError::bad_name:
      return "bad_name";
    case HeadError::space_before_colon:
      return "space_before_colon";
    case HeadError::no_colon:
      return "no_colon";
    case HeadError::folded:
      return "folded";
    case HeadError::bare_cr:
      return "bare_cr";
    case HeadError::bad_value:
      return "bad_value";
    case HeadError::too_large:
      return "too_large";
  }
  return "";
}

HeadError parse_request_head(ByteView bytes, RequestHead& out) noexcept {
  const std::uint8_t* p = bytes.data();
  const std::uint8_t* end = p + bytes.size();
  HeadError error = take_request_line(p, end, out);
  if (error == HeadError::none) error = take_fields(p, end, &out.fields);
  out.size = static_cast<std::size_t>(p - bytes.data());
  return limited(error, error == HeadError::incomplete ? bytes.size() : out.size);
}

HeadError parse_response_head(ByteView bytes, ResponseHead& out) noexcept {
  const std::uint8_t* p = bytes.data();
  const std::uint8_t* end = p + bytes.size();
  HeadError error = take_status_line(p, end, out);
  if (error == HeadError::none) error = take_fields(p, end, &out.fields);
  out.size = static_cast<std::size_t>(p - bytes.data());
  return limited(error, error == HeadError::incomplete ? bytes.size() : out.size);
}

HeadError parse_trailers(ByteView bytes, std::size_t& size) noexcept {
  const std::uint8_t* p = bytes.data();
  const HeadError error = take_fields(p, p + bytes.size(), nullptr);
  size = static_cast<std::size_t>(p - bytes.data());
  return limited(error, error == HeadError::incomplete ? bytes.size() : size);
}

std::size_t find_head_end(ByteView bytes, std::size_t from) noexcept {
  const std::uint8_t* begin = bytes.data();
  const std::uint8_t* end = begin + bytes.size();
  const std::uint8_t* p = begin + (from > 3 ? from - 3 : 0);
  while (p < end) {
    p = static_cast<const std::uint8_t*>(std::memchr(p, '\n', static_cast<std::size_t>(end - p)));
    if (p == nullptr) return 0;
    ++p;
    if (p < end && *p == '\n') return static_cast<std::size_t>(p + 1 - begin);
    if (p + 1 < end && *p == '\r' && p[1] == '\n') return static_cast<std::size_t>(p + 2 - begin);
  }
  return 0;
}

ChunkError parse_chunk_line(ByteView bytes, ChunkLine& out) noexcept {
  const std::uint8_t* p = bytes.data();
  const std::uint8_t* end = p + bytes.size();
  std::uint64_t size = 0;
  const std::uint8_t* digits = p;
  for (; p < end; ++p) {
    const std::uint8_t c = *p;
    unsigned digit;
    if (c >= '0' && c <= '9')
      digit = c - '0';
    else if (c >= 'a' && c <= 'f')
      digit = c - 'a' + 10u;
    else if (c >= 'A' && c <= 'F')
      digit = c - 'A' + 10u;
    else
      break;
    if (size > (kMaxLength - digit) / 16) return ChunkError::invalid;
    size = size * 16 + digit;
  }
  // Leading zeros are allowed, but not without end.
  if (p - digits > 32) return ChunkError::invalid;
  if (p == end) return ChunkError::incomplete;
  if (p == digits) return ChunkError::invalid;
  // BWS and ";ext=val" (7.1.1): their content means nothing here, so only the characters are
  // checked.
  if (*p != '\r' && *p != ';' && *p != ' ' && *p != '\t') return ChunkError::invalid;
  p = skip_value(p, end);
  if (p == end) {
    return bytes.size() >= kMaxChunkLine ? ChunkError::invalid : ChunkError::incomplete;
  }
  if (*p != '\r') return ChunkError::invalid;
  if (p + 1 == end) return ChunkError::incomplete;
  if (p[1] != '\n') return ChunkError::invalid;
  out.size = size;
  out.consumed = static_cast<std::size_t>(p + 2 - bytes.data());
  return out.consumed > kMaxChunkLine ? ChunkError::invalid : ChunkError::none;
}

Start looks_like_request(ByteView bytes) noexcept {
  // RFC 9112 2.2: an empty line before the request line is ignored.
  while (!bytes.empty() && at_line_end(bytes.data())) bytes = bytes.subspan(1);
  const std::uint8_t* p = bytes.data();
  RequestHead head;
  const HeadError error = take_request_line(p, p + bytes.size(), head);
  if (error == HeadError::none) return Start::yes;
  return error == HeadError::incomplete && bytes.size() < kMaxHead ? Start::need_more : Start::no;
}

Start looks_like_response(ByteView bytes) noexcept {
  const std::uint8_t* p = bytes.data();
  ResponseHead head;
  const HeadError error = take_status_line(p, p + bytes.size(), head);
  if (error == HeadError::none) return Start::yes;
  return error == HeadError::incomplete && bytes.size() < kMaxHead ? Start::need_more : Start::no;
}

}  // namespace olly::http1
