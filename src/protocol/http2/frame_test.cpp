#include "protocol/http2/frame.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "protocol/http2/detect.h"
#include "protocol/http2/grpc.h"

namespace olly::http2 {
namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes frame(std::uint32_t length, unsigned type, unsigned flags, std::uint32_t stream) {
  Bytes out;
  for (const int shift : {16, 8, 0}) out.push_back(static_cast<std::uint8_t>(length >> shift));
  out.push_back(static_cast<std::uint8_t>(type));
  out.push_back(static_cast<std::uint8_t>(flags));
  for (const int shift : {24, 16, 8, 0}) out.push_back(static_cast<std::uint8_t>(stream >> shift));
  return out;
}

// y_*: taken for HTTP/2, and no prefix of it is refused. n_*: refused, however much there is.
TEST(Http2Detect, Testdata) {
  int files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(OLLY_SOURCE_DIR "/src/protocol/http2/testdata")) {
    std::ifstream in(entry.path(), std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    const std::string name = entry.path().filename();
    const Verdict verdict = looks_like_http2(as_bytes(text));
    if (name.starts_with("y_")) {
      EXPECT_TRUE(verdict == Verdict::yes || verdict == Verdict::maybe) << name;
    } else {
      EXPECT_EQ(verdict, Verdict::no) << name;
    }
    for (std::size_t n = 0; n < text.size(); ++n) {
      const Verdict cut = looks_like_http2(as_bytes(std::string_view(text).substr(0, n)));
      if (name.starts_with("y_"))
        EXPECT_NE(cut, Verdict::no) << name << " cut at " << n;
      else
        EXPECT_TRUE(cut == Verdict::no || cut == Verdict::need_more) << name << " cut at " << n;
    }
    ++files;
  }
  EXPECT_GE(files, 12);
}

TEST(Http2Frame, ValidityByType) {
  struct Case {
    std::uint32_t length;
    unsigned type, flags;
    std::uint32_t stream;
    bool valid;
  };
  const Case cases[] = {
      {0, 0, 0, 1, true},     {0, 0, 0, 0, false},     {0, 0, 8, 1, false},
      {1, 1, 4, 1, true},     {1, 1, 4, 0, false},     {5, 2, 0, 1, true},
      {4, 2, 0, 1, false},    {4, 3, 0, 1, true},      {4, 3, 0, 0, false},
      {6, 4, 0, 0, true},     {7, 4, 0, 0, false},     {6, 4, 1, 0, false},
      {0, 4, 1, 0, true},     {6, 4, 0, 1, false},     {3, 5, 4, 1, false},
      {8, 6, 0, 0, true},     {8, 6, 0, 1, false},     {7, 7, 0, 0, false},
      {8, 7, 0, 0, true},     {4, 8, 0, 0, true},      {4, 8, 0, 9, true},
      {5, 8, 0, 0, false},    {0, 9, 0, 1, true},      {0, 9, 0, 0, false},
      {16384, 0, 0, 1, true}, {16385, 0, 0, 1, false}, {99, 0x42, 0xff, 7, true},
  };
  for (const Case& c : cases) {
    const Bytes b = frame(c.length, c.type, c.flags, c.stream);
    EXPECT_EQ(valid_frame(read_frame_header(b), kInitialMaxFrame), c.valid)
        << c.length << " " << c.type << " " << c.flags << " " << c.stream;
  }
}

TEST(Http2Frame, Settings) {
  const Bytes good = {0, 5, 0, 0x10, 0, 0, 0, 4, 0, 0, 0xff, 0xff};
  EXPECT_TRUE(read_settings(good).valid);
  EXPECT_EQ(read_settings(good).max_frame, 0x100000u);
  EXPECT_FALSE(read_settings(Bytes{0, 5, 0, 0, 0x10, 0}).valid);  // below 2^14
  EXPECT_FALSE(read_settings(Bytes{0, 2, 0, 0, 0, 2}).valid);     // neither 0 nor 1
  EXPECT_FALSE(read_settings(Bytes{0, 4, 0x80, 0, 0, 0}).valid);  // above 2^31-1
}

TEST(Http2Frame, Padding) {
  FrameHeader h{.length = 4, .type = FrameType::data, .flags = kPadded, .stream = 1};
  const Bytes b = {2, 'x', 0, 0};
  ByteView payload = b;
  ASSERT_TRUE(strip_padding(h, payload));
  EXPECT_EQ(as_text(payload), "x");
  const Bytes too_much = {4, 0, 0, 0};
  payload = too_much;
  EXPECT_FALSE(strip_padding(h, payload));
  h.type = FrameType::headers;
  h.flags = kPriority;
  payload = b;
  EXPECT_FALSE(strip_padding(h, payload));
}

// Detection on what other protocols send: length-prefixed binary, TLS records, text, random.
TEST(Http2Detect, NoFalsePositive) {
  std::mt19937 random(7);
  const auto below = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
  Bytes b;
  for (int i = 0; i < 200000; ++i) {
    b.clear();
    const std::uint32_t length = below(60);
    switch (i % 6) {
      case 0:  // u32 length, then small integers (ZooKeeper, Kafka)
        for (const int s : {24, 16, 8, 0}) b.push_back(static_cast<std::uint8_t>(length >> s));
        for (std::uint32_t n = 0; n < length; ++n) {
          b.push_back(below(3) != 0 ? 0 : static_cast<std::uint8_t>(below(20)));
        }
        break;
      case 1:  // u16 length
        b = {static_cast<std::uint8_t>(length >> 8), static_cast<std::uint8_t>(length)};
        for (std::uint32_t n = 0; n < length; ++n)
          b.push_back(static_cast<std::uint8_t>(below(256)));
        break;
      case 2:  // TLS
        b = {22, 3, static_cast<std::uint8_t>(below(4)), 0, static_cast<std::uint8_t>(length)};
        for (std::uint32_t n = 0; n < length; ++n)
          b.push_back(static_cast<std::uint8_t>(below(256)));
        break;
      case 3:
        for (std::uint32_t n = 0; n < length; ++n) {
          b.push_back(static_cast<std::uint8_t>(' ' + below(95)));
        }
        break;
      case 4:  // zeros with a few bits in them
        b.assign(length, 0);
        for (int n = 0; n < 3 && length > 0; ++n)
          b[below(length)] = static_cast<std::uint8_t>(below(16));
        break;
      default:
        for (std::uint32_t n = 0; n < length; ++n)
          b.push_back(static_cast<std::uint8_t>(below(256)));
    }
    const Verdict v = looks_like_http2(b);
    ASSERT_TRUE(v == Verdict::no || v == Verdict::need_more) << "message " << i;
  }
}

TEST(Grpc, MessagesAcrossPieces) {
  Bytes all;
  for (const std::size_t size : {std::size_t{3}, std::size_t{0}, std::size_t{300}}) {
    for (const std::size_t b :
         {std::size_t{0}, std::size_t{0}, std::size_t{0}, size >> 8, size & 255}) {
      all.push_back(static_cast<std::uint8_t>(b));
    }
    all.resize(all.size() + size, 'm');
  }
  for (std::size_t piece = 1; piece < 20; ++piece) {
    MessageCounter counter;
    for (std::size_t at = 0; at < all.size();) {
      ByteView data = ByteView(all).subspan(at, std::min(piece, all.size() - at));
      at += data.size();
      while (!data.empty()) {
        counter.take(data);
        const std::size_t n = std::min<std::size_t>(counter.left, data.size());
        counter.left -= static_cast<std::uint32_t>(n);
        data = data.subspan(n);
      }
    }
    EXPECT_TRUE(counter.known);
    EXPECT_EQ(counter.messages, 3u);
    EXPECT_EQ(counter.left, 0u);
    EXPECT_EQ(counter.prefix, 0u);
  }
  MessageCounter none;
  const Bytes text = {'h', 't', 'm', 'l'};
  ByteView data = text;
  none.take(data);
  EXPECT_FALSE(none.known);
}

TEST(Grpc, HeadValues) {
  const auto head_with = [](Name name, std::string_view value) {
    Head head;
    Field f;
    f.kind = static_cast<std::uint8_t>(name);
    f.value = value;
    head.add(f);
    return head;
  };
  for (const char* yes : {"application/grpc", "application/grpc+proto", "Application/gRPC;x=y"}) {
    EXPECT_TRUE(head_with(Name::content_type, yes).is_grpc()) << yes;
  }
  for (const char* no : {"application/grpc-web", "application/grp", "text/html", ""}) {
    EXPECT_FALSE(head_with(Name::content_type, no).is_grpc()) << no;
  }
  EXPECT_EQ(head_with(Name::grpc_timeout, "1500m").grpc_timeout(), 1500 * kMillisecond);
  EXPECT_EQ(head_with(Name::grpc_timeout, "99999999H").grpc_timeout(),
            99999999ull * 3600 * kSecond);
  for (const char* bad : {"", "m", "1", "-1m", "1x", "123456789m"}) {
    EXPECT_EQ(head_with(Name::grpc_timeout, bad).grpc_timeout(), 0u) << bad;
  }
  EXPECT_EQ(head_with(Name::grpc_status, "16").grpc_status(), 16);
  for (const char* bad : {"", "-1", "1a", "99999999999"}) {
    EXPECT_EQ(head_with(Name::grpc_status, bad).grpc_status(), -1) << bad;
  }
  EXPECT_EQ(head_with(Name::status, "200").status(), 200);
  for (const char* bad : {"", "20", "2000", "abc", "099"}) {
    EXPECT_EQ(head_with(Name::status, bad).status(), -1) << bad;
  }
}

}  // namespace
}  // namespace olly::http2
