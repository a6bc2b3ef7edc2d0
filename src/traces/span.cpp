#include "traces/span.h"

namespace olly {
namespace {

template <std::size_t N>
std::string hex(const std::array<std::uint8_t, N>& bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(2 * N);
  for (const std::uint8_t b : bytes) {
    text.push_back(kDigits[b >> 4]);
    text.push_back(kDigits[b & 15]);
  }
  return text;
}

}  // namespace

std::string to_hex(const TraceId& id) { return hex(id.bytes); }
std::string to_hex(const SpanId& id) { return hex(id.bytes); }

}  // namespace olly
