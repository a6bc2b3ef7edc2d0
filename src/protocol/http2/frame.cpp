#include "protocol/http2/frame.h"

#include <array>

namespace olly::http2 {

std::uint32_t read_u32(const std::uint8_t* p) noexcept {
  return static_cast<std::uint32_t>(p[0]) << 24 | static_cast<std::uint32_t>(p[1]) << 16 |
         static_cast<std::uint32_t>(p[2]) << 8 | p[3];
}

FrameHeader read_frame_header(ByteView b) noexcept {
  FrameHeader h;
  h.length = static_cast<std::uint32_t>(b[0]) << 16 | static_cast<std::uint32_t>(b[1]) << 8 | b[2];
  h.type = static_cast<FrameType>(b[3]);
  h.flags = b[4];
  h.stream = read_u32(b.data() + 5) & 0x7fffffff;
  return h;
}

bool valid_frame(const FrameHeader& h, std::uint32_t max_frame) noexcept {
  if (h.length > max_frame) return false;
  switch (h.type) {
    case FrameType::data:
    case FrameType::headers:
      return h.stream != 0 && (!h.has(kPadded) || h.length > 0);
    case FrameType::continuation:
      return h.stream != 0;
    case FrameType::priority:
      return h.stream != 0 && h.length == 5;
    case FrameType::rst_stream:
      return h.stream != 0 && h.length == 4;
    case FrameType::settings:
      return h.stream == 0 && h.length % 6 == 0 && (!h.has(kAck) || h.length == 0);
    case FrameType::push_promise:
      return h.stream != 0 && h.length >= 4;
    case FrameType::ping:
      return h.stream == 0 && h.length == 8;
    case FrameType::goaway:
      return h.stream == 0 && h.length >= 8;
    case FrameType::window_update:
      return h.length == 4;
  }
  return true;  // an extension
}

bool plausible_frame(ByteView b) noexcept {
  constexpr std::array<std::uint8_t, 10> kFlags = {kEndStream | kPadded,
                                                   kEndStream | kEndHeaders | kPadded | kPriority,
                                                   0,
                                                   0,
                                                   kAck,
                                                   kEndHeaders | kPadded,
                                                   kAck,
                                                   0,
                                                   0,
                                                   kEndHeaders};
  // Longer ones exist only where a peer has said that it takes them, which few do.
  constexpr std::uint32_t kPlausible = 64 * 1024;
  const FrameHeader h = read_frame_header(b);
  const auto type = static_cast<std::size_t>(h.type);
  if (type >= kFlags.size() || (h.flags & ~kFlags[type]) != 0 || (b[5] & 0x80) != 0) return false;
  if (h.type == FrameType::headers && (h.length == 0 || h.stream % 2 == 0)) return false;
  if (h.type == FrameType::settings && h.length > 96) return false;
  return valid_frame(h, kPlausible);
}

Settings read_settings(ByteView payload) noexcept {
  Settings s;
  s.valid = payload.size() % 6 == 0;
  for (std::size_t at = 0; at + 6 <= payload.size(); at += 6) {
    const unsigned id = static_cast<unsigned>(payload[at]) << 8 | payload[at + 1];
    const std::uint32_t value = read_u32(payload.data() + at + 2);
    switch (id) {
      case 2:  // ENABLE_PUSH
        s.valid &= value <= 1;
        break;
      case 4:  // INITIAL_WINDOW_SIZE
        s.valid &= value <= 0x7fffffff;
        break;
      case 5:  // MAX_FRAME_SIZE
        s.valid &= value >= kInitialMaxFrame && value <= kLargestFrame;
        s.max_frame = value;
        break;
      default:
        break;
    }
  }
  return s;
}

bool strip_padding(const FrameHeader& h, ByteView& payload) noexcept {
  std::size_t front = 0;
  std::size_t back = 0;
  if (h.has(kPadded)) {
    if (payload.empty()) return false;
    front = 1;
    back = payload[0];
  }
  if (h.type == FrameType::headers && h.has(kPriority)) front += 5;
  if (h.type == FrameType::push_promise) front += 4;
  if (front + back > payload.size()) return false;
  payload = payload.subspan(front, payload.size() - front - back);
  return true;
}

std::string_view error_name(std::uint32_t code) noexcept {
  constexpr std::array<std::string_view, 14> kNames = {"NO_ERROR",
                                                       "PROTOCOL_ERROR",
                                                       "INTERNAL_ERROR",
                                                       "FLOW_CONTROL_ERROR",
                                                       "SETTINGS_TIMEOUT",
                                                       "STREAM_CLOSED",
                                                       "FRAME_SIZE_ERROR",
                                                       "REFUSED_STREAM",
                                                       "CANCEL",
                                                       "COMPRESSION_ERROR",
                                                       "CONNECT_ERROR",
                                                       "ENHANCE_YOUR_CALM",
                                                       "INADEQUATE_SECURITY",
                                                       "HTTP_1_1_REQUIRED"};
  return code < kNames.size() ? kNames[code] : std::string_view{};
}

}  // namespace olly::http2
