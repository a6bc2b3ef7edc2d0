#include "export/otlp/answer.h"

#include <gtest/gtest.h>

#include <protozero/pbf_writer.hpp>

namespace olly::otlp {
namespace {

using Kind = Answer::Kind;

// google.rpc.Status with a RetryInfo, as a server puts it into grpc-status-details-bin.
std::string rpc_status(std::string_view message, std::int64_t seconds, std::int32_t nanos) {
  std::string delay, info, any, status;
  protozero::pbf_writer d(delay);
  d.add_int64(1, seconds);
  d.add_int32(2, nanos);
  protozero::pbf_writer(info).add_message(1, delay);
  protozero::pbf_writer a(any);
  a.add_string(1, "type.googleapis.com/google.rpc.RetryInfo");
  a.add_bytes(2, info);
  protozero::pbf_writer s(status);
  s.add_int32(1, 14);
  s.add_string(2, message.data(), message.size());
  s.add_message(3, any);
  return status;
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  unsigned bits = 0;
  int have = 0;
  for (const char c : bytes) {
    bits = bits << 8 | static_cast<unsigned char>(c);
    for (have += 8; have >= 6; have -= 6) out += kDigits[bits >> (have - 6) & 63];
  }
  if (have > 0) out += kDigits[bits << (6 - have) & 63];
  return out;
}

std::string partial(std::int64_t rejected, std::string_view message) {
  std::string success, response;
  protozero::pbf_writer s(success);
  s.add_int64(1, rejected);
  s.add_string(2, message.data(), message.size());
  protozero::pbf_writer(response).add_message(1, success);
  return response;
}

TEST(OtlpAnswer, ResponseIsReadWithItsPartialSuccess) {
  Answer a;
  EXPECT_TRUE(read_export_response("", a));
  EXPECT_EQ(a.rejected, 0u);
  EXPECT_TRUE(read_export_response(partial(7, "too old"), a));
  EXPECT_EQ(a.rejected, 7u);
  EXPECT_EQ(a.message, "too old");
}

TEST(OtlpAnswer, NegativeCountOfRejectedIsNone) {
  Answer a;
  read_export_response(partial(-5, ""), a);
  EXPECT_EQ(a.rejected, 0u);
}

TEST(OtlpAnswer, MalformedResponseOfAnAcceptedRequestIsAccepted) {
  Answer a;
  EXPECT_FALSE(read_export_response("\x0a\x7f", a));
  EXPECT_EQ(judge_http(200, "\x0a\x7f", "", 0).kind, Kind::accepted);
  EXPECT_EQ(judge_http(200, "<html>", "", 0).rejected, 0u);
}

TEST(OtlpAnswer, EveryCutOfAStatusIsReadOrRefused) {
  const std::string whole = rpc_status("wait", 3, 500'000'000);
  for (std::size_t n = 0; n < whole.size(); ++n) {
    std::string message;
    std::optional<milliseconds> wait;
    read_rpc_status(std::string_view(whole).substr(0, n), message, wait);
    EXPECT_FALSE(wait && *wait != milliseconds(3500)) << n;
  }
  std::string message;
  std::optional<milliseconds> wait;
  EXPECT_TRUE(read_rpc_status(whole, message, wait));
  EXPECT_EQ(message, "wait");
  EXPECT_EQ(wait, milliseconds(3500));
}

// OTLP specification, "Failures" and "OTLP/HTTP Throttling".
TEST(OtlpAnswer, HttpStatusDecides) {
  for (const int status : {429, 502, 503, 504}) {
    EXPECT_EQ(judge_http(status, "", "", 0).kind, Kind::retry) << status;
  }
  for (const int status : {301, 400, 401, 403, 404, 500, 501}) {
    EXPECT_EQ(judge_http(status, "", "7", 0).kind, Kind::refused) << status;
    EXPECT_FALSE(judge_http(status, "", "7", 0).wait) << status;
  }
  EXPECT_EQ(judge_http(413, "", "", 0).kind, Kind::too_large);
  EXPECT_EQ(judge_http(415, "", "", 0).kind, Kind::encoding);
  EXPECT_EQ(judge_http(503, "", "7", 0).wait, milliseconds(7000));
}

// The OTLP specification's table of gRPC codes.
TEST(OtlpAnswer, GrpcStatusDecides) {
  EXPECT_EQ(judge_grpc(0, "", "").kind, Kind::accepted);
  for (const int code : {1, 4, 10, 11, 14, 15}) {
    EXPECT_EQ(judge_grpc(code, "", "").kind, Kind::retry) << code;
  }
  for (const int code : {2, 3, 5, 6, 7, 9, 13, 16, 99}) {
    EXPECT_EQ(judge_grpc(code, "", "").kind, Kind::refused) << code;
  }
}

TEST(OtlpAnswer, ResourceExhaustedIsRetriedOnlyWithRetryInfo) {
  EXPECT_EQ(judge_grpc(8, "quota", "").kind, Kind::refused);
  EXPECT_EQ(judge_grpc(8, "grpc: received message larger than max (5 vs. 4)", "").kind,
            Kind::too_large);
  const Answer a = judge_grpc(8, "quota", base64(rpc_status("", 2, 0)));
  EXPECT_EQ(a.kind, Kind::retry);
  EXPECT_EQ(a.wait, milliseconds(2000));
}

TEST(OtlpAnswer, WaitIsBounded) {
  EXPECT_EQ(judge_grpc(14, "", base64(rpc_status("", 1LL << 60, 0))).wait, kMaxWait);
  EXPECT_EQ(judge_grpc(14, "", base64(rpc_status("", -1, 0))).wait, milliseconds(0));
  EXPECT_EQ(read_retry_after("99999999999999999999", 0).value_or(kMaxWait), kMaxWait);
  EXPECT_EQ(read_retry_after("86400", 0), kMaxWait);
}

TEST(OtlpAnswer, RetryAfterAsDate) {
  constexpr std::int64_t kNow = 784111777;  // RFC 9110's example, Sun, 06 Nov 1994 08:49:37 GMT
  EXPECT_EQ(read_retry_after("Sun, 06 Nov 1994 08:49:47 GMT", kNow), milliseconds(10'000));
  EXPECT_EQ(read_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", kNow + 100), milliseconds(0));
  EXPECT_FALSE(read_retry_after("soon", kNow));
  EXPECT_FALSE(read_retry_after("", kNow));
  EXPECT_FALSE(read_retry_after("-3", kNow));
}

// gRPC, http-grpc-status-mapping.md.
TEST(OtlpAnswer, HttpStatusWithoutGrpcStatus) {
  EXPECT_EQ(grpc_status_of_http(400), 13);
  EXPECT_EQ(grpc_status_of_http(401), 16);
  EXPECT_EQ(grpc_status_of_http(403), 7);
  EXPECT_EQ(grpc_status_of_http(404), 12);
  EXPECT_EQ(grpc_status_of_http(503), 14);
  EXPECT_EQ(grpc_status_of_http(500), 2);
}

TEST(OtlpAnswer, Base64WithAndWithoutPadding) {
  EXPECT_EQ(decode_base64(""), "");
  EXPECT_EQ(decode_base64("Zg=="), "f");
  EXPECT_EQ(decode_base64("Zg"), "f");
  EXPECT_EQ(decode_base64("Zm9v"), "foo");
  EXPECT_EQ(decode_base64("-_8"), decode_base64("+/8="));
  EXPECT_FALSE(decode_base64("Z"));
  EXPECT_FALSE(decode_base64("Zm9\n"));
}

TEST(OtlpAnswer, MessagesAreReadable) {
  EXPECT_EQ(readable("100 %25 %C3%BCber", true), "100 % \u00fcber");
  EXPECT_EQ(readable("50 %", true), "50 %");
  EXPECT_EQ(readable("%zz", true), "%zz");
  EXPECT_EQ(readable("a\x1b[31mb\nc", false), "a [31mb c");
  EXPECT_EQ(readable(std::string(1000, 'x'), false).size(), 200u);
  EXPECT_EQ(readable(std::string(1000, '\xff'), false).size(), 600u);
}

}  // namespace
}  // namespace olly::otlp
