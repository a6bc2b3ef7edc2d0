#include "protocol/http2/huffman.h"

#include <array>

namespace olly::http2 {
namespace {

constexpr std::size_t kSymbols = 257;  // the last is EOS
constexpr std::uint16_t kEos = 256;
constexpr int kLongest = 30;

// Bits per symbol. The code is canonical (ordered by length, then by symbol), so the lengths are
// all there is to say.
constexpr std::array<std::uint8_t, kSymbols> kLengths = {
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6,  10, 10, 12, 13, 6,  8,  11, 10, 10, 8,  11, 8,  6,  6,  6,
    5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8,  15, 6,  12, 10, 13, 6,  7,  7,  7,  7,  7,  7,
    7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8,  13, 19, 13, 14, 6,
    15, 5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5,  6,  7,  6,  5,  5,  6,  7,  7,
    7,  7,  7,  15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30};

// The code by length: its first code, left-aligned in 32 bits, and where its symbols begin in
// `symbols`; and by its first 8 bits, for the codes that are no longer.
struct Code {
  struct Short {
    std::uint8_t symbol = 0;
    std::uint8_t length = 0;  // 0 = longer than 8 bits
  };
  std::array<Short, 256> by_byte{};
  std::array<std::uint32_t, kLongest + 2> first{};
  std::array<std::uint16_t, kLongest + 2> begin{};
  std::array<std::uint16_t, kSymbols> symbols{};
};

constexpr Code make_code() {
  Code code;
  std::uint64_t next = 0;  // left-aligned in 32 bits
  std::uint16_t count = 0;
  for (int length = 1; length <= kLongest; ++length) {
    const auto l = static_cast<std::size_t>(length);
    code.first[l] = static_cast<std::uint32_t>(next);
    code.begin[l] = count;
    for (std::size_t s = 0; s < kSymbols; ++s) {
      if (kLengths[s] != length) continue;
      code.symbols[count++] = static_cast<std::uint16_t>(s);
      if (length <= 8) {
        const std::uint64_t from = next >> 24;
        const std::uint64_t to = from + (std::uint64_t{1} << (8 - length));
        for (std::uint64_t i = from; i < to; ++i) {
          code.by_byte[i] = {static_cast<std::uint8_t>(s), static_cast<std::uint8_t>(length)};
        }
      }
      next += std::uint64_t{1} << (32 - length);
    }
  }
  code.begin[kLongest + 1] = count;
  return code;
}

constexpr Code kCode = make_code();
static_assert(kCode.begin[kLongest + 1] == kSymbols);
static_assert(kCode.symbols[kSymbols - 1] == kEos);

// The length of the code that `bits` (left-aligned) begins with. The code is complete: every
// pattern begins with one.
int length_of(std::uint32_t bits) noexcept {
  int length = 9;
  while (length < kLongest && bits >= kCode.first[static_cast<std::size_t>(length) + 1]) ++length;
  return length;
}

}  // namespace

bool huffman_decode(ByteView bytes, std::string& out) noexcept {
  std::uint64_t window = 0;  // left-aligned bits that are not decoded yet
  int have = 0;
  const std::uint8_t* p = bytes.data();
  const std::uint8_t* end = p + bytes.size();
  for (;;) {
    while (have <= 56 && p < end) {
      window |= static_cast<std::uint64_t>(*p++) << (56 - have);
      have += 8;
    }
    if (have == 0) return true;
    const Code::Short s = kCode.by_byte[window >> 56];
    if (s.length != 0) {
      if (s.length > have) break;
      out.push_back(static_cast<char>(s.symbol));
      window <<= s.length;
      have -= s.length;
      continue;
    }
    const auto top = static_cast<std::uint32_t>(window >> 32);
    const int length = length_of(top);
    if (length > have) break;
    const auto l = static_cast<std::size_t>(length);
    const std::uint32_t offset = (top - kCode.first[l]) >> (32 - length);
    const std::uint16_t symbol = kCode.symbols[kCode.begin[l] + offset];
    if (symbol == kEos) return false;
    out.push_back(static_cast<char>(symbol));
    window <<= length;
    have -= length;
  }
  // What is left must be the beginning of EOS: ones.
  return have < 8 && window >> (64 - have) == (std::uint64_t{1} << have) - 1;
}

}  // namespace olly::http2
