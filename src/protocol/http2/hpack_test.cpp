// RFC 7541 appendix C, and what a reader that came late may and may not say.
#include "protocol/http2/hpack.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "protocol/http2/huffman.h"

namespace olly::http2 {
namespace {

using Fields = std::vector<std::pair<std::string, std::string>>;

std::uint8_t all(std::string_view) noexcept { return 1; }
std::uint8_t only_status(std::string_view name) noexcept { return name == ":status" ? 1 : 0; }

std::vector<std::uint8_t> hex(std::string_view text) {
  std::vector<std::uint8_t> bytes;
  int high = -1;
  for (const char c : text) {
    if (c == ' ') continue;
    const int digit = c <= '9' ? c - '0' : c - 'a' + 10;
    if (high < 0) {
      high = digit;
      continue;
    }
    bytes.push_back(static_cast<std::uint8_t>(high << 4 | digit));
    high = -1;
  }
  return bytes;
}

// An unknown field is {"?", ""}.
Fields decode(HpackDecoder& hpack, std::string_view text, HpackError want = HpackError::none) {
  Fields out;
  const std::vector<std::uint8_t> block = hex(text);
  const HpackError error = hpack.decode(block, [&](const Field& f) {
    out.emplace_back(f.known ? std::string(f.name) : "?", std::string(f.value));
  });
  EXPECT_EQ(to_string(error), to_string(want)) << text;
  return out;
}

TEST(Hpack, C2SingleFields) {
  HpackDecoder a(&all);
  EXPECT_EQ(decode(a, "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572"),
            (Fields{{"custom-key", "custom-header"}}));
  EXPECT_EQ(a.table().cost(), 55u);
  HpackDecoder b(&all);
  EXPECT_EQ(decode(b, "040c 2f73 616d 706c 652f 7061 7468"), (Fields{{":path", "/sample/path"}}));
  EXPECT_EQ(b.table().cost(), 0u);
  std::vector<std::uint8_t> never = hex("1008 7061 7373 776f 7264 0673 6563 7265 74");
  int fields = 0;
  EXPECT_EQ(b.decode(never,
                     [&](const Field& f) {
                       ++fields;
                       EXPECT_TRUE(f.never_indexed);
                       EXPECT_EQ(f.name, "password");
                     }),
            HpackError::none);
  EXPECT_EQ(fields, 1);
  EXPECT_EQ(b.table().size(), 0u);
  EXPECT_EQ(decode(b, "82"), (Fields{{":method", "GET"}}));
}

const Fields kFirst = {
    {":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "www.example.com"}};
const Fields kSecond = {{":method", "GET"},
                        {":scheme", "http"},
                        {":path", "/"},
                        {":authority", "www.example.com"},
                        {"cache-control", "no-cache"}};
const Fields kThird = {{":method", "GET"},
                       {":scheme", "https"},
                       {":path", "/index.html"},
                       {":authority", "www.example.com"},
                       {"custom-key", "custom-value"}};

TEST(Hpack, C3Requests) {
  HpackDecoder h(&all);
  EXPECT_EQ(decode(h, "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d"), kFirst);
  EXPECT_EQ(h.table().cost(), 57u);
  EXPECT_EQ(decode(h, "8286 84be 5808 6e6f 2d63 6163 6865"), kSecond);
  EXPECT_EQ(h.table().cost(), 110u);
  EXPECT_EQ(decode(h, "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65"),
            kThird);
  EXPECT_EQ(h.table().cost(), 164u);
  EXPECT_EQ(h.table().size(), 3u);
}

TEST(Hpack, C4RequestsWithHuffman) {
  HpackDecoder h(&all);
  EXPECT_EQ(decode(h, "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff"), kFirst);
  EXPECT_EQ(decode(h, "8286 84be 5886 a8eb 1064 9cbf"), kSecond);
  EXPECT_EQ(decode(h, "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf"), kThird);
  EXPECT_EQ(h.table().cost(), 164u);
}

// The examples' table has 256 bytes, so entries are evicted; said here by a size update (3fe1 01).
void responses(std::string_view first, std::string_view second, std::string_view third) {
  HpackDecoder h(&all);
  EXPECT_EQ(decode(h, "3fe101 " + std::string(first)),
            (Fields{{":status", "302"},
                    {"cache-control", "private"},
                    {"date", "Mon, 21 Oct 2013 20:13:21 GMT"},
                    {"location", "https://www.example.com"}}));
  EXPECT_EQ(h.table().cost(), 222u);
  EXPECT_EQ(decode(h, second), (Fields{{":status", "307"},
                                       {"cache-control", "private"},
                                       {"date", "Mon, 21 Oct 2013 20:13:21 GMT"},
                                       {"location", "https://www.example.com"}}));
  EXPECT_EQ(h.table().cost(), 222u);
  EXPECT_EQ(decode(h, third),
            (Fields{{":status", "200"},
                    {"cache-control", "private"},
                    {"date", "Mon, 21 Oct 2013 20:13:22 GMT"},
                    {"location", "https://www.example.com"},
                    {"content-encoding", "gzip"},
                    {"set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"}}));
  EXPECT_EQ(h.table().cost(), 215u);
  EXPECT_EQ(h.table().size(), 3u);
}

TEST(Hpack, C5Responses) {
  responses(
      "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a "
      "3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
      "4803 3330 37c1 c0bf",
      "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 "
      "677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 "
      "553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31");
}

TEST(Hpack, C6ResponsesWithHuffman) {
  responses(
      "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e "
      "919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
      "4883 640e ffc1 c0bf",
      "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 "
      "821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed "
      "4ee5 b106 3d50 07");
}

TEST(Hpack, Integers) {
  HpackDecoder h(&all);
  // C.1.2: 1337 with a 5-bit prefix, as a size update.
  decode(h, "3f9a0a");
  EXPECT_EQ(h.table().limit(), 1337u);
  decode(h, "3fffffffff7f", HpackError::bad_integer);
  decode(h, "3f8080808080 8001", HpackError::bad_integer);
  decode(h, "3fff", HpackError::truncated);
}

TEST(Hpack, Refused) {
  const std::pair<const char*, HpackError> bad[] = {
      {"80", HpackError::bad_index},                // index 0
      {"be", HpackError::bad_index},                // an empty table has no entry
      {"400a 6375", HpackError::truncated},         // a string beyond the block
      {"41", HpackError::truncated},                // a literal without a value
      {"8220", HpackError::late_resize},            // behind a field
      {"202020", HpackError::bad_resize},           // three of them
      {"0481 00", HpackError::bad_huffman},         // padding of zeros
      {"0482 1fff", HpackError::bad_huffman},       // padding of more than 7 bits ("a" and 11 ones)
      {"0484 ffff fffc", HpackError::bad_huffman},  // EOS
  };
  for (const auto& [block, error] : bad) {
    HpackDecoder h(&all);
    decode(h, block, error);
  }
}

// One symbol of several lengths each, padded (appendix B). That the code is complete is asserted
// where its tables are made.
TEST(Hpack, HuffmanSymbols) {
  const std::pair<const char*, std::string> known[] = {
      {"1f", "a"}, {"f8", "&"}, {"fe3f", "!"}, {"ffc7", std::string(1, '\0')}, {"ffef", "~"}};
  for (const auto& [code, text] : known) {
    std::string out;
    const auto bytes = hex(code);
    EXPECT_TRUE(huffman_decode(bytes, out)) << code;
    EXPECT_EQ(out, text);
  }
}

TEST(Hpack, AnEntryLargerThanTheTableEmptiesIt) {
  HpackDecoder h(&all);
  decode(h, "3f21 4001 6101 62");  // 64 bytes: fits
  EXPECT_EQ(h.table().size(), 1u);
  decode(h, "4001 6120 " + std::string(64, '6'));
  EXPECT_EQ(h.table().size(), 0u);
  EXPECT_EQ(h.table().cost(), 0u);
}

TEST(Hpack, WhatWasNotSeenIsUnknown) {
  HpackDecoder h(&all);
  h.forget();
  EXPECT_EQ(decode(h, "82 be"), (Fields{{":method", "GET"}, {"?", ""}}));
  // Inserted from now on: exact, in front of what is unknown.
  EXPECT_EQ(decode(h, "4001 6101 62 be bf"), (Fields{{"a", "b"}, {"a", "b"}, {"?", ""}}));
  // A new entry under an unknown name stays unknown, value and all, and keeps its place.
  EXPECT_EQ(decode(h, "7f00 0178"), (Fields{{"?", "x"}}));
  EXPECT_EQ(decode(h, "be bf"), (Fields{{"?", ""}, {"a", "b"}}));
}

TEST(Hpack, ValuesOfNoInterestAreNotKept) {
  HpackDecoder h(&only_status);
  decode(h, "4001 6106 7365 6372 6574 4803 3230 31");
  EXPECT_EQ(h.table().cost(), 32u + 7 + 32 + 10);
  std::string seen;
  const std::vector<std::uint8_t> block = hex("be bf");
  EXPECT_EQ(h.decode(block,
                     [&](const Field& f) {
                       seen += std::string(f.name) + "=" + std::string(f.value) + ";";
                       EXPECT_EQ(f.value_kept, f.name == ":status");
                     }),
            HpackError::none);
  EXPECT_EQ(seen, ":status=201;a=;");
  EXPECT_LE(h.table().memory(), 1024u);
}

TEST(Hpack, MemoryIsBounded) {
  HpackDecoder h(&all);
  decode(h, "3fe1ffff0f");  // 32 MiB
  EXPECT_EQ(h.table().limit(), kMaxTable);
  EXPECT_FALSE(h.table().whole());
  std::vector<std::uint8_t> block = {0x40, 0x01, 'a', 0x7f, 0x81, 0x07};  // a value of 1024 bytes
  block.resize(block.size() + 1024, 'v');
  for (int i = 0; i < 1000; ++i) {
    ASSERT_EQ(h.decode(block, [](const Field&) {}), HpackError::none);
  }
  EXPECT_LE(h.table().cost(), kMaxTable);
  EXPECT_LE(h.table().memory(), 4 * kMaxTable);
}

}  // namespace
}  // namespace olly::http2
