#include "protocol/http1/parse.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "redact/url.h"
#include "traces/traceparent.h"

namespace olly::http1 {
namespace {

HeadError verdict(const std::string& name, ByteView bytes) {
  if (name.find("request") != std::string::npos) {
    RequestHead head;
    return parse_request_head(bytes, head);
  }
  ResponseHead head;
  return parse_response_head(bytes, head);
}

// y_*: accepted, and every prefix is incomplete. n_*: refused, and never accepted on the way.
TEST(Http1Parse, Testdata) {
  int files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(OLLY_SOURCE_DIR "/src/protocol/http1/testdata")) {
    std::ifstream in(entry.path(), std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    const std::string name = entry.path().filename();
    const HeadError error = verdict(name, as_bytes(text));
    const bool accept = name.starts_with("y_");
    if (accept)
      EXPECT_EQ(error, HeadError::none) << name << " " << to_string(error);
    else
      EXPECT_TRUE(error != HeadError::none && error != HeadError::incomplete) << name;
    for (std::size_t n = 0; n < text.size(); ++n) {
      const HeadError cut = verdict(name, as_bytes(std::string_view(text).substr(0, n)));
      if (accept)
        EXPECT_EQ(cut, HeadError::incomplete) << name << " cut at " << n;
      else
        EXPECT_NE(cut, HeadError::none) << name << " cut at " << n;
    }
    ++files;
  }
  EXPECT_GE(files, 20);
}

TEST(Http1Parse, ChunkLine) {
  ChunkLine line;
  EXPECT_EQ(parse_chunk_line(as_bytes("1aF;x=\"y\"\r\n"), line), ChunkError::none);
  EXPECT_EQ(line.size, 0x1afu);
  EXPECT_EQ(line.consumed, 11u);
  EXPECT_EQ(parse_chunk_line(as_bytes("1a"), line), ChunkError::incomplete);
  for (const char* bad : {"\r\n", "g\r\n", "1\n", "8000000000000000\r\n", "-1\r\n", "1\rx"}) {
    EXPECT_EQ(parse_chunk_line(as_bytes(bad), line), ChunkError::invalid) << bad;
  }
  EXPECT_EQ(parse_chunk_line(as_bytes("7fffffffffffffff\r\n"), line), ChunkError::none);
}

TEST(Http1Parse, TooLarge) {
  std::string text = "GET / HTTP/1.1\r\nX: ";
  text.append(kMaxHead, 'a');
  RequestHead head;
  EXPECT_EQ(parse_request_head(as_bytes(text), head), HeadError::too_large);
}

TEST(TraceParent, Versions) {
  const std::string good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  EXPECT_TRUE(parse_traceparent(good).valid);
  EXPECT_EQ(parse_traceparent(good).flags, 1);
  EXPECT_TRUE(parse_traceparent("01" + good.substr(2) + "-more").valid);
  for (const std::string& bad :
       {good + "-x", "ff" + good.substr(2), good.substr(0, 54), "01" + good.substr(2) + "x",
        std::string("00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        std::string("00-00000000000000000000000000000000-00f067aa0ba902b7-01"),
        std::string("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01")}) {
    EXPECT_FALSE(parse_traceparent(bad).valid) << bad;
  }
  EXPECT_TRUE(valid_tracestate("a=1, b@c=x y"));
  for (const char* bad : {"", "A=1", "a=1,a=2", "a", "a=\x01"}) EXPECT_FALSE(valid_tracestate(bad));
}

TEST(RedactUrl, Query) {
  std::string out;
  redact::append_query(out, "a=1&sig=x&Sig=y&%73ig=z&X-Amz-Signature=1&sig");
  EXPECT_EQ(out, "a=1&sig=REDACTED&Sig=y&%73ig=REDACTED&X-Amz-Signature=REDACTED&sig");
  EXPECT_FALSE(redact::query_has_secret("a=1&signature=2"));
}

}  // namespace
}  // namespace olly::http1
