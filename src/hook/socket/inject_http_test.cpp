// What libolly.so must know of HTTP/1 for header injection (preload/http.c): pure functions.
#include "../../../preload/http.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <string_view>

namespace {

const olly_u8* bytes(std::string_view text) {
  return reinterpret_cast<const olly_u8*>(text.data());
}

// In memory of exactly its size, so that a sanitizer sees a byte too many.
bool parse(std::string_view text, http_head& out) {
  static std::unique_ptr<char[]> copy;
  copy = std::make_unique<char[]>(text.size() + (text.empty() ? 1 : 0));
  text.copy(copy.get(), text.size());
  return http_parse(reinterpret_cast<olly_u8*>(copy.get()), text.size(), &out);
}
bool parses(std::string_view text) {
  http_head head;
  return parse(text, head);
}

constexpr std::string_view kParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

TEST(InjectHttp, Heads) {
  http_head h;
  const std::string_view get = "GET /a?b HTTP/1.1\r\nHost: shop:8080\r\nAccept: */*\r\n\r\n";
  ASSERT_TRUE(parse(get, h));
  EXPECT_EQ(h.size, get.size());
  EXPECT_EQ(h.fits, get.find("Accept")) << "behind Host";
  EXPECT_EQ(std::string_view(h.host, h.host_length), "shop");
  EXPECT_EQ(h.port, 8080);
  EXPECT_FALSE(h.ends || h.chunked || h.refused || h.has_parent);
  ASSERT_TRUE(parse("GET / HTTP/1.0\r\n\r\nrest", h));
  EXPECT_EQ(h.size, 18u);
  EXPECT_EQ(h.fits, 16u);
  ASSERT_TRUE(parse("POST / HTTP/1.1\r\nhost: [::1]:81\r\ncontent-LENGTH:  12 \r\n\r\n", h));
  EXPECT_EQ(h.length, 12u);
  EXPECT_EQ(std::string_view(h.host, h.host_length), "[::1]");
  EXPECT_EQ(h.port, 81);
  ASSERT_TRUE(parse("PUT / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n", h));
  EXPECT_TRUE(h.chunked);
  EXPECT_FALSE(h.ends);
}

TEST(InjectHttp, WhatFollowsIsNotKnown) {
  http_head h;
  for (const char* field :
       {"Upgrade: websocket", "Expect: 100-continue", "Content-Length: x", "Content-Length: 1, 1",
        "Content-Length: 1\r\nContent-Length: 1", "Transfer-Encoding: gzip, chunked",
        "Content-Length: 1\r\nTransfer-Encoding: chunked", "Content-Length: 9999999999999999999"}) {
    ASSERT_TRUE(parse("GET / HTTP/1.1\r\n" + std::string(field) + "\r\n\r\n", h)) << field;
    EXPECT_TRUE(h.ends) << field;
  }
  ASSERT_TRUE(parse("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", h));
  EXPECT_TRUE(h.ends && h.refused);
}

TEST(InjectHttp, NoHeads) {
  const std::string good = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
  for (std::size_t n = 0; n < good.size(); ++n) EXPECT_FALSE(parses(good.substr(0, n))) << n;
  for (std::size_t n = 0; n < 30; ++n) EXPECT_FALSE(parses(std::string(n, 'A'))) << n;
  for (const char* text :
       {"get / HTTP/1.1\r\nHost: a\r\n\r\n", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: a\r\n\r\n", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n", "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nA: \x01\r\n\r\n", "GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
        "HTTP/1.1 200 OK\r\nServer: a\r\n\r\n", "*1\r\n$4\r\nPING\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 HTTP/1.1\r\n\r\n",
        "GETGETGETGETGETGETGETGET / HTTP/1.1\r\n\r\n"}) {
    EXPECT_FALSE(parses(text)) << text;
  }
}

TEST(InjectHttp, OwnTraceIsRespected) {
  http_head h;
  const auto with = [&](const std::string& fields) {
    EXPECT_TRUE(parse("GET / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n", h)) << fields;
  };
  with("TraceParent: " + std::string(kParent) + "\r\n");
  EXPECT_TRUE(h.refused && h.has_parent);
  EXPECT_EQ(h.parent.trace_id[0], 0x0a);
  EXPECT_EQ(h.parent.span_id[7], 0x31);
  EXPECT_EQ(h.parent.flags, 1);
  with("traceparent: nonsense\r\n");
  EXPECT_TRUE(h.refused && !h.has_parent);
  with("traceparent: " + std::string(kParent) + "\r\ntraceparent: " + std::string(kParent) +
       "\r\n");
  EXPECT_TRUE(h.refused && !h.has_parent);
  for (const char* name : {"tracestate", "b3", "X-B3-TraceId", "uber-trace-id"}) {
    with(std::string(name) + ": x\r\n");
    EXPECT_TRUE(h.refused) << name;
  }
  with("traceparents: x\r\n");
  EXPECT_FALSE(h.refused);
}

TEST(InjectHttp, WritesWhatItReads) {
  http_trace t{};
  for (int i = 0; i < 16; ++i) t.trace_id[i] = static_cast<olly_u8>(i * 17);
  for (int i = 0; i < 8; ++i) t.span_id[i] = static_cast<olly_u8>(255 - i);
  t.flags = 1;
  std::string line(HTTP_HEADER, '\0');
  http_write(line.data(), &t);
  EXPECT_EQ(line, "traceparent: 00-00112233445566778899aabbccddeeff-fffefdfcfbfaf9f8-01\r\n");
  http_head h;
  ASSERT_TRUE(parse("GET / HTTP/1.1\r\n" + line + "\r\n", h));
  ASSERT_TRUE(h.has_parent);
  EXPECT_EQ(std::memcmp(h.parent.trace_id, t.trace_id, 16), 0);
  EXPECT_EQ(std::memcmp(h.parent.span_id, t.span_id, 8), 0);
}

// Messages cut anywhere: each begins where the one before ended, or nobody knows.
TEST(InjectHttp, FollowsMessages) {
  const std::string one = "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n";
  const std::string chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  const std::string chunks =
      "3;x=y\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nTrailer: GET / HTTP/1.1\r\n\r\n";
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    http_flow f{};
    for (int message = 0; message < 3; ++message) {
      const bool is_chunked = random() % 2;
      const std::string& head = is_chunked ? chunked : one;
      const std::string rest = is_chunked ? chunks : "GET /";
      ASSERT_TRUE(http_at_start(&f));
      std::string all = head + rest;
      std::size_t at = head.size() + random() % (rest.size() + 1);
      http_follow(&f, bytes(all), at);
      while (at < all.size()) {
        EXPECT_FALSE(http_at_start(&f)) << all.substr(at);
        const std::size_t n = std::min<std::size_t>(all.size() - at, 1 + random() % 9);
        http_follow(&f, bytes(all) + at, n);
        at += n;
      }
    }
    EXPECT_TRUE(http_at_start(&f));
  }
}

TEST(InjectHttp, LosesItsWayForGood) {
  const std::string get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
  const auto lost_after = [](auto... texts) {
    http_flow f{};
    (http_follow(&f, bytes(texts), std::string_view(texts).size()), ...);
    return f.state == HTTP_LOST;
  };
  EXPECT_FALSE(lost_after(get, get + get));
  EXPECT_TRUE(lost_after(std::string("GET / HTTP/1.1\r\n"), get)) << "a head in two parts";
  EXPECT_TRUE(lost_after(get, std::string("\r\n"), get));
  EXPECT_TRUE(lost_after(std::string("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"), get));
  EXPECT_TRUE(
      lost_after(std::string("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"), get));
  EXPECT_TRUE(lost_after(
      std::string("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n")));
  http_flow f{};
  http_follow(&f, nullptr, 10);  // sendfile, where a head should be
  EXPECT_EQ(f.state, HTTP_LOST);
  f = {};
  http_follow(&f, bytes("POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"), 38);
  http_follow(&f, nullptr, 9);
  EXPECT_TRUE(http_at_start(&f)) << "sendfile, where a body is";
}

TEST(InjectHttp, FollowsParts) {
  http_flow f{};
  std::string head = "POST / HTTP/1.1\r\nContent-Length: 8\r\n\r\n", body = "12345678";
  const iovec parts[] = {
      {head.data(), head.size()}, {nullptr, 0}, {body.data(), 4}, {body.data() + 4, 4}};
  http_follow_parts(&f, parts, 4, 0, head.size() + 5);
  EXPECT_EQ(f.left, 3u);
  http_follow_parts(&f, parts, 4, head.size() + 5, 100);
  EXPECT_TRUE(http_at_start(&f));
}

olly_inject_rule name_rule(const char* name, olly_u16 port = 0) {
  olly_inject_rule r{};
  r.kind = OLLY_INJECT_NAME;
  r.port = port;
  std::strncpy(r.name, name, sizeof r.name - 1);
  return r;
}
bool allowed(const olly_inject_rule& rule, const char* host, bool tls = false) {
  http_head h;
  EXPECT_TRUE(parse("GET / HTTP/1.1\r\nHost: " + std::string(host) + "\r\n\r\n", h));
  olly_u8 address[16] = {10, 1, 2, 3};
  return http_allowed(&rule, 1, &h, OLLY_FAMILY_INET, address, 8080, tls);
}

TEST(InjectHttp, Destinations) {
  EXPECT_TRUE(allowed(name_rule("*"), "anything.example"));
  EXPECT_TRUE(allowed(name_rule("*"), ""));
  EXPECT_TRUE(allowed(name_rule("*.internal"), "Shop.INTERNAL:81"));
  EXPECT_FALSE(allowed(name_rule("*.internal"), "internal.example"));
  EXPECT_FALSE(allowed(name_rule("shop"), "shop.example"));
  EXPECT_TRUE(allowed(name_rule("a?c*e"), "abcde"));
  EXPECT_TRUE(allowed(name_rule("*a*b*"), "xxaxxabxx"));
  EXPECT_FALSE(allowed(name_rule("*a*b"), "xxaxxbx"));
  EXPECT_TRUE(allowed(name_rule("*", 80), "a"));
  EXPECT_FALSE(allowed(name_rule("*", 80), "a", true));
  EXPECT_TRUE(allowed(name_rule("*", 443), "a", true));
  EXPECT_FALSE(allowed(name_rule("*", 80), "a:8080"));
  const std::string longest(OLLY_PRELOAD_RULE_NAME, 'a');
  olly_inject_rule full{};
  full.kind = OLLY_INJECT_NAME;
  std::memset(full.name, 'a', sizeof full.name);  // no end
  EXPECT_TRUE(allowed(full, longest.c_str()));
  olly_inject_rule r{};
  r.kind = OLLY_INJECT_ADDRESS;
  r.family = OLLY_FAMILY_INET;
  r.address[0] = 10;
  r.address[1] = 0;
  r.bits = 15;
  EXPECT_TRUE(allowed(r, "a"));
  r.bits = 16;
  EXPECT_FALSE(allowed(r, "a"));
  r.bits = 0;
  EXPECT_TRUE(allowed(r, "a"));
  r.port = 80;
  EXPECT_FALSE(allowed(r, "a"));
  r.port = 8080;
  EXPECT_TRUE(allowed(r, "a"));
  r.family = OLLY_FAMILY_INET6;
  EXPECT_FALSE(allowed(r, "a"));
}

// Nothing that comes makes it read or write where it must not (the sanitizers look).
TEST(InjectHttp, Garbage) {
  std::mt19937 random(7);
  const std::string seed =
      "POST /x HTTP/1.1\r\nHost: a:1\r\nTransfer-Encoding: chunked\r\ntraceparent: " +
      std::string(kParent) + "\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
  for (int round = 0; round < 20000; ++round) {
    std::string text = seed.substr(0, random() % (seed.size() + 1));
    for (int n = static_cast<int>(random() % 4); n > 0 && !text.empty(); --n) {
      text[random() % text.size()] = static_cast<char>(random());
    }
    http_head h;
    if (parse(text, h)) {
      ASSERT_LE(h.size, text.size());
      ASSERT_LT(h.fits, h.size);
    }
    http_flow f{};
    const auto copy = std::make_unique<char[]>(text.size() + 1);
    text.copy(copy.get(), text.size());
    http_follow(&f, reinterpret_cast<olly_u8*>(copy.get()), text.size());
  }
}

}  // namespace
