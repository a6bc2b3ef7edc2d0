#include "protocol/http1/scan.h"

#include <gtest/gtest.h>

#include <vector>

namespace olly::http1 {
namespace {

using Skip = const std::uint8_t* (*)(const std::uint8_t*, const std::uint8_t*);

// Every byte at every place of buffers of every length up to three vectors: as the table says.
void expect_as_table(Skip skip, std::uint8_t cls, std::uint8_t filler) {
  for (std::size_t size = 0; size <= 48; ++size) {
    for (std::size_t at = 0; at < size; ++at) {
      for (int c = 0; c < 256; ++c) {
        std::vector<std::uint8_t> bytes(size, filler);
        bytes[at] = static_cast<std::uint8_t>(c);
        const std::uint8_t* begin = bytes.data();
        const std::uint8_t* end = begin + size;
        ASSERT_EQ(skip(begin, end) - begin, skip_class(begin, end, cls) - begin)
            << "byte " << c << " at " << at << " of " << size;
      }
    }
  }
}

TEST(HttpScan, Token) { expect_as_table(skip_token, kToken, 'x'); }
TEST(HttpScan, TokenOfRareCharacters) { expect_as_table(skip_token, kToken, '~'); }
TEST(HttpScan, Target) { expect_as_table(skip_target, kTarget, '/'); }
TEST(HttpScan, Value) { expect_as_table(skip_value, kValue, '\t'); }

}  // namespace
}  // namespace olly::http1
