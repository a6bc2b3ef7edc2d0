// HTTP/2 frames (RFC 9113 sections 4 and 6): pure functions over bytes.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/bytes.h"

namespace olly::http2 {

inline constexpr std::size_t kFrameHeader = 9;
inline constexpr std::uint32_t kInitialMaxFrame = 16384;  // 6.5.2
inline constexpr std::uint32_t kLargestFrame = (1u << 24) - 1;
// Section 3.4.
inline constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

enum class FrameType : std::uint8_t {
  data = 0,
  headers = 1,
  priority = 2,
  rst_stream = 3,
  settings = 4,
  push_promise = 5,
  ping = 6,
  goaway = 7,
  window_update = 8,
  continuation = 9,  // larger types are extensions, which are ignored (5.5)
};

inline constexpr std::uint8_t kEndStream = 0x1;  // DATA, HEADERS
inline constexpr std::uint8_t kAck = 0x1;        // SETTINGS, PING
inline constexpr std::uint8_t kEndHeaders = 0x4;
inline constexpr std::uint8_t kPadded = 0x8;
inline constexpr std::uint8_t kPriority = 0x20;

struct FrameHeader {
  std::uint32_t length = 0;  // of the payload
  FrameType type = FrameType::data;
  std::uint8_t flags = 0;
  std::uint32_t stream = 0;
  bool has(std::uint8_t flag) const noexcept { return (flags & flag) != 0; }
};

// bytes.size() >= kFrameHeader. The reserved bit is left out (4.1: ignored).
FrameHeader read_frame_header(ByteView bytes) noexcept;

// What the type demands of stream id and length (section 6). False: a connection error, whoever
// reads it. `max_frame`: what the receiver allows.
bool valid_frame(const FrameHeader& header, std::uint32_t max_frame) noexcept;

// For finding frames where nothing says that one begins: valid, no flag that its type does not
// define, no reserved bit, a known type. bytes.size() >= kFrameHeader.
bool plausible_frame(ByteView bytes) noexcept;

struct Settings {
  bool valid = false;           // values in their ranges (6.5.2)
  std::uint32_t max_frame = 0;  // SETTINGS_MAX_FRAME_SIZE; 0 = not said
};
Settings read_settings(ByteView payload) noexcept;

// The part of a DATA, HEADERS or PUSH_PROMISE payload that is neither pad length, priority,
// promised id nor padding. False: the padding is longer than the payload (6.1).
bool strip_padding(const FrameHeader& header, ByteView& payload) noexcept;

std::uint32_t read_u32(const std::uint8_t* p) noexcept;

// Section 7; empty for codes without a name.
std::string_view error_name(std::uint32_t code) noexcept;

inline constexpr std::uint32_t kNoError = 0;
inline constexpr std::uint32_t kRefusedStream = 7;
inline constexpr std::uint32_t kCancel = 8;

}  // namespace olly::http2
