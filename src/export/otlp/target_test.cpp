#include "export/otlp/target.h"

#include <gtest/gtest.h>

namespace olly::otlp {
namespace {

using config::OtlpProtocol;

Endpoint parsed(std::string_view text, OtlpProtocol protocol, bool insecure = false,
                Signal signal = Signal::traces, bool own = false) {
  auto e = parse_endpoint(text, protocol, insecure, signal, own);
  EXPECT_TRUE(e) << text;
  return e ? *e : Endpoint{};
}

TEST(OtlpTarget, BaseUrlGetsThePathOfTheSignal) {
  EXPECT_EQ(parsed("http://c:4318", OtlpProtocol::http),
            (Endpoint{false, "c", "4318", "c:4318", "/v1/traces"}));
  EXPECT_EQ(parsed("http://c:4318/", OtlpProtocol::http, false, Signal::metrics).path,
            "/v1/metrics");
  EXPECT_EQ(parsed("http://c:4318/otlp/", OtlpProtocol::http).path, "/otlp/v1/traces");
}

TEST(OtlpTarget, EndpointOfOneSignalIsUsedAsItIs) {
  EXPECT_EQ(parsed("http://c:4318/in", OtlpProtocol::http, false, Signal::traces, true).path,
            "/in");
  EXPECT_EQ(parsed("http://c:4318", OtlpProtocol::http, false, Signal::traces, true).path, "/");
}

TEST(OtlpTarget, SchemeDecidesOnTlsAndPort) {
  const Endpoint https = parsed("https://c", OtlpProtocol::http, true);
  EXPECT_TRUE(https.tls);
  EXPECT_EQ(https.port, "443");
  const Endpoint http = parsed("http://c", OtlpProtocol::grpc);
  EXPECT_FALSE(http.tls);
  EXPECT_EQ(http.port, "80");
  EXPECT_TRUE(http.path.empty());
}

TEST(OtlpTarget, WithoutSchemeInsecureDecides) {
  EXPECT_TRUE(parsed("c:4317", OtlpProtocol::grpc).tls);
  EXPECT_FALSE(parsed("c:4317", OtlpProtocol::grpc, true).tls);
  EXPECT_EQ(parsed("c", OtlpProtocol::grpc, true).port, "4317");
  EXPECT_EQ(parsed("c", OtlpProtocol::http, true).port, "4318");
}

TEST(OtlpTarget, Ipv6) {
  const Endpoint e = parsed("http://[::1]:4317", OtlpProtocol::grpc);
  EXPECT_EQ(e.host, "::1");
  EXPECT_EQ(e.port, "4317");
  EXPECT_EQ(e.authority, "[::1]:4317");
}

TEST(OtlpTarget, WhatCannotBeIsRefused) {
  for (const char* text : {"http://", "ftp://c:4317", "http://c:99999", "http://c:0x10",
                           "c:", "http://[::1", "http://c d:4317", "http://c\r\nx: y"}) {
    EXPECT_FALSE(parse_endpoint(text, OtlpProtocol::http, true, Signal::traces, false)) << text;
  }
}

TEST(OtlpTarget, HeadersThatWouldBreakTheRequestAreRefused) {
  config::OtlpExporter config;
  config.endpoint = "http://c:4318";
  config.headers = {{"x-tenant", "a\r\nb: c"}};
  EXPECT_FALSE(resolve_target(config, Signal::traces));
  config.headers = {{"x tenant", "a"}};
  EXPECT_FALSE(resolve_target(config, Signal::traces));
  config.headers = {{"X-Tenant", "a"}};
  const auto target = resolve_target(config, Signal::traces);
  ASSERT_TRUE(target);
  ASSERT_EQ(target->headers.size(), 1u);
  EXPECT_EQ(target->headers[0].first, "x-tenant");
}

}  // namespace
}  // namespace olly::otlp
