// HTTP/1.x on the wire: start lines, header sections, chunk lines. Pure functions over bytes, no
// allocation, no state; every view in a result points into the bytes that were passed in.
//
// Strict as RFC 9112 is: what is refused here is refused because programs disagree on it. Lenient
// in two places where the RFC lets a recipient be and real programs need it: a line may end in LF
// alone (section 2.2), and a status line may lack the space before an empty reason (section 4).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "protocol/common/http.h"

namespace olly::http1 {

// A head or trailer section longer than this is invalid.
inline constexpr std::size_t kMaxHead = 64 * 1024;
// A chunk-size line with its extensions.
inline constexpr std::size_t kMaxChunkLine = 4 * 1024;

enum class HeadError : std::uint8_t {
  none,                // parsed
  incomplete,          // well-formed so far; the end is not there yet
  bad_method,          // the request line does not begin with a token and one space (RFC 9112 3.1)
  bad_target,          // empty, or holds a control character or space (3.2)
  bad_version,         // not HTTP/1.<digit> (2.3)
  bad_status,          // not three digits from 100 (4)
  bad_reason,          // control character in the reason phrase (4)
  bad_name,            // a field name that is empty or holds a non-token character (5.1)
  space_before_colon,  // white space between name and colon: a smuggling device (5.1)
  no_colon,            // a field line without a colon (5)
  folded,              // a line that begins with white space: obs-fold, refused (5.2)
  bare_cr,             // CR that no LF follows (2.2)
  bad_value,           // a control character in a field value (RFC 9110 5.5)
  too_large,           // more than kMaxHead
};
std::string_view to_string(HeadError error) noexcept;

// The fields that framing needs, besides those for telemetry; all others are only checked. Values
// are trimmed.
struct Fields : HttpFields {
  // Framing (RFC 9112 section 6)
  std::uint64_t content_length = 0;
  bool has_length = false;  // Content-Length is there and, so far, one number
  bool bad_length = false;  // not a number up to 2^63-1, or two that differ
  bool has_transfer_encoding = false;
  bool chunked = false;                // the last transfer coding is chunked, and only the last
  bool bad_transfer_encoding = false;  // chunked twice, or before another coding, or an empty list

  bool connection_upgrade = false;  // Connection lists "upgrade"
  bool has_upgrade = false;
  std::string_view upgrade;  // the first Upgrade field
};

struct RequestHead {
  std::string_view method;
  std::string_view target;
  std::uint8_t minor_version = 1;
  Fields fields;
  std::size_t size = 0;  // bytes, with the empty line
};

struct ResponseHead {
  std::uint16_t status = 0;
  std::uint8_t minor_version = 1;
  Fields fields;
  std::size_t size = 0;
};

// Parses a head that begins at bytes[0]. `out` is meaningful only for `none`.
HeadError parse_request_head(ByteView bytes, RequestHead& out) noexcept;
HeadError parse_response_head(ByteView bytes, ResponseHead& out) noexcept;

// The bytes of the trailer section that begins at bytes[0], the empty line included (RFC
// 9112 7.1.2).
HeadError parse_trailers(ByteView bytes, std::size_t& size) noexcept;

// Position just behind the empty line that ends a head, or 0. `from`: bytes before it are known not
// to hold the end, so that a head which comes byte by byte is not read again each time.
std::size_t find_head_end(ByteView bytes, std::size_t from) noexcept;

// A chunk-size line: size, extensions, CRLF (RFC 9112 7.1). `incomplete` or `none`, else invalid:
// no digits, more than 2^63-1, a control character, bare LF, longer than kMaxChunkLine.
enum class ChunkError : std::uint8_t { none, incomplete, invalid };
struct ChunkLine {
  std::uint64_t size = 0;
  std::size_t consumed = 0;
};
ChunkError parse_chunk_line(ByteView bytes, ChunkLine& out) noexcept;

// What the first bytes of a message look like.
enum class Start : std::uint8_t {
  no,         // cannot be one
  need_more,  // could still become one
  yes,        // a whole, valid start line
};
Start looks_like_request(ByteView bytes) noexcept;
Start looks_like_response(ByteView bytes) noexcept;

}  // namespace olly::http1
