#include "protocol/http2/detect.h"

#include <algorithm>
#include <bit>
#include <iterator>

#include "protocol/http2/frame.h"
#include "protocol/http2/head.h"
#include "protocol/http2/hpack.h"

namespace olly::http2 {
namespace {

constexpr std::size_t kShortBlock = 2;

std::uint8_t any_name(std::string_view) noexcept { return 1; }

// Section 8.2.1: lower case, no control character, no white space.
bool valid_name(std::string_view name) noexcept {
  if (name.empty()) return false;
  for (const char c : name) {
    const auto u = static_cast<unsigned char>(c);
    if (u <= 0x20 || u >= 0x7f || (u >= 'A' && u <= 'Z')) return false;
  }
  return true;
}

bool valid_value(std::string_view value) noexcept {
  for (const char c : value) {
    if (c == '\0' || c == '\n' || c == '\r') return false;
  }
  return true;
}

// Sections 8.3.1 and 8.3.2: what the values of pseudo-header fields look like.
bool valid_pseudo(std::string_view name, std::string_view value) noexcept {
  const auto all = [value](auto is) { return std::all_of(value.begin(), value.end(), is); };
  if (name == ":status") {
    return value.size() == 3 && value[0] >= '1' && value[0] <= '9' &&
           all([](char c) { return c >= '0' && c <= '9'; });
  }
  if (name == ":method") {
    return !value.empty() && all([](char c) { return c > ' ' && c < '\x7f'; });
  }
  if (name == ":path") return value.starts_with('/') || value == "*";
  return true;
}

// Which pseudo-header field it is, as one bit; 0 = none that there is.
unsigned pseudo_bit(std::string_view name) noexcept {
  constexpr std::string_view kNames[] = {":status", ":method",    ":scheme",
                                         ":path",   ":authority", ":protocol"};
  for (unsigned i = 0; i < std::size(kNames); ++i) {
    if (name == kNames[i]) return 1u << i;
  }
  return 0;
}

// Section 8.3: each once, before all others; of a response :status alone, of a request several.
class PseudoFields {
 public:
  bool add(const Field& f) noexcept {
    if (!f.known) return true;
    if (!f.name.starts_with(':')) {
      over_ = true;
      return true;
    }
    const unsigned bit = pseudo_bit(f.name);
    const bool good = bit != 0 && (seen_ & bit) == 0 && !over_;
    seen_ |= bit;
    return good;
  }
  bool telling() const noexcept {
    return seen_ == 1 || ((seen_ & 1) == 0 && std::popcount(seen_) >= 2);
  }

 private:
  unsigned seen_ = 0;
  bool over_ = false;
};

bool is_settings(const FrameHeader& h, ByteView payload) noexcept {
  if (h.has(kAck) || !read_settings(payload).valid) return false;
  for (std::size_t at = 0; at + 6 <= payload.size(); at += 6) {
    const unsigned id = static_cast<unsigned>(payload[at]) << 8 | payload[at + 1];
    const bool grpc = id == 0xfe03;               // what grpc-core sends
    const bool grease = (id & 0x0f0f) == 0x0a0a;  // RFC 9218 and others reserve them
    if ((id == 0 || id > 9) && !grpc && !grease) return false;
  }
  return true;
}

bool follows_settings(const FrameHeader& h, ByteView payload) noexcept {
  if (h.type == FrameType::window_update) return h.stream == 0 && read_u32(payload.data()) != 0;
  return (h.type == FrameType::settings && h.has(kAck)) || h.type == FrameType::headers;
}

}  // namespace

bool is_header_block(const FrameHeader& h, ByteView payload, bool trailers) noexcept {
  if (!h.has(kEndHeaders) || !strip_padding(h, payload)) return false;
  HpackDecoder hpack(&any_name);
  hpack.forget();
  PseudoFields pseudo;
  bool first = true;
  bool good = true;
  const HpackError error = hpack.decode(payload, [&](const Field& f) {
    if (first && !trailers) good = f.known && f.name.starts_with(':');
    first = false;
    good &= pseudo.add(f);
    if (!f.known) return;
    good &= valid_name(f.name) && valid_value(f.value);
    if (f.value_kept && f.name.starts_with(':')) good &= valid_pseudo(f.name, f.value);
  });
  return error == HpackError::none && good && !first && (trailers || pseudo.telling());
}

Verdict looks_like_http2(ByteView bytes) noexcept {
  const std::string_view text = as_text(bytes);
  if (text.starts_with(kPreface)) return Verdict::yes;
  if (bytes.size() < kPreface.size() && kPreface.starts_with(text)) return Verdict::need_more;
  // No frame of the types that decide here is that long.
  if (bytes.empty()) return Verdict::need_more;
  if (bytes[0] != 0) return Verdict::no;
  bool telling = false;
  bool after_settings = false;
  int frames = 0;
  while (bytes.size() >= kFrameHeader) {
    if (!plausible_frame(bytes)) return Verdict::no;
    const FrameHeader h = read_frame_header(bytes);
    if (h.length > bytes.size() - kFrameHeader) break;
    const ByteView payload = bytes.subspan(kFrameHeader, h.length);
    ++frames;
    if (h.type == FrameType::settings && h.length > 0) {
      if (!is_settings(h, payload)) return Verdict::no;
      return Verdict::maybe;
    }
    // Little can be said of an empty SETTINGS but what a peer sends right behind it.
    if (after_settings && !follows_settings(h, payload)) return Verdict::no;
    after_settings = h.type == FrameType::settings && !h.has(kAck) && frames == 1;
    telling |= after_settings;
    bytes = bytes.subspan(kFrameHeader + h.length);
    if (h.type == FrameType::headers) {
      if (!is_header_block(h, payload, false)) return Verdict::no;
      // One or two bytes decode too easily to prove something without another frame.
      if (bytes.empty() && payload.size() > kShortBlock) return Verdict::maybe;
      telling = true;
    }
    if (telling && frames >= 2) return Verdict::maybe;
  }
  // Too short for a decision, but of a type that may bring one.
  if (bytes.size() < kFrameHeader) {
    constexpr std::size_t kType = 3;
    if (bytes.size() <= kType) return frames == 0 || telling ? Verdict::need_more : Verdict::no;
    const std::uint8_t type = bytes[kType];
    const bool fits = type == static_cast<std::uint8_t>(FrameType::settings) ||
                      type == static_cast<std::uint8_t>(FrameType::headers) || telling;
    return fits && bytes[0] == 0 ? Verdict::need_more : Verdict::no;
  }
  const FrameHeader h = read_frame_header(bytes);
  return h.type == FrameType::headers || h.type == FrameType::settings || telling
             ? Verdict::need_more
             : Verdict::no;
}

Verdict frames_begin_at(ByteView bytes, bool call_begins, bool stream_open) noexcept {
  Verdict alone = Verdict::no;  // what the first frame says by itself
  for (int frames = 0;;) {
    if (bytes.empty()) return frames >= 2 ? Verdict::yes : alone;
    if (bytes.size() < kFrameHeader) return alone;
    if (!plausible_frame(bytes)) return Verdict::no;
    const FrameHeader h = read_frame_header(bytes);
    const bool whole = h.length <= bytes.size() - kFrameHeader;
    if (frames == 0 && call_begins) {
      alone = whole ? Verdict::yes : Verdict::need_more;
      if (h.type == FrameType::data) alone = stream_open ? Verdict::yes : Verdict::no;
      if (h.type == FrameType::headers && whole && h.has(kEndHeaders) &&
          !is_header_block(h, bytes.subspan(kFrameHeader, h.length), true)) {
        return Verdict::no;
      }
    }
    if (++frames >= 3) return Verdict::yes;
    if (!whole) return alone;
    bytes = bytes.subspan(kFrameHeader + h.length);
  }
}

}  // namespace olly::http2
