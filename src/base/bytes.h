// Bytes as they pass through the data plane: views, never owners.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace olly {

// Borrowed bytes. Valid only as long as the call that handed them over, unless its comment says
// more.
using ByteView = std::span<const std::uint8_t>;

inline std::string_view as_text(ByteView bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline ByteView as_bytes(std::string_view text) noexcept {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

}  // namespace olly
