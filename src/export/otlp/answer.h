// What OTLP servers answer, read as the foreign bytes they are: bounded, and nothing throws.
// Sources: opentelemetry-proto collector/*/v1/*_service.proto, google/rpc/status.proto and
// error_details.proto, RFC 9110 10.2.3 (Retry-After), gRPC's PROTOCOL-HTTP2.md.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace olly::otlp {

using std::chrono::milliseconds;

// One request's fate.
struct Answer {
  enum class Kind : std::uint8_t {
    accepted,   // with `rejected` of its records refused, perhaps
    retry,      // to be sent again, not before `wait`
    too_large,  // smaller ones may pass
    refused,    // must not be sent again
    encoding,   // the compression is not known there
    stopped,    // the abort flag ended it
  };
  Kind kind = Kind::retry;
  std::optional<milliseconds> wait;  // the server's wish
  std::uint64_t rejected = 0;
  std::string message;  // printable, for the log
};

// Export*ServiceResponse: {1: partial_success {1: rejected, 2: message}}. False: malformed.
bool read_export_response(std::string_view bytes, Answer& to) noexcept;
// google.rpc.Status: the message and RetryInfo's delay, if it is there. False: malformed.
bool read_rpc_status(std::string_view bytes, std::string& message,
                     std::optional<milliseconds>& wait) noexcept;
// A response to OTLP/HTTP. `now_unix`: seconds.
Answer judge_http(int status, std::string_view body, std::string_view retry_after,
                  std::int64_t now_unix);
inline constexpr int kGrpcInternal = 13;
// A gRPC status; `details` is the value of grpc-status-details-bin, `message` of grpc-message.
Answer judge_grpc(int code, std::string_view message, std::string_view details);
// The gRPC status for a response that has none (http-grpc-status-mapping.md).
int grpc_status_of_http(int status) noexcept;

// Seconds or an HTTP-date; a time in the past is 0. At most kMaxWait.
std::optional<milliseconds> read_retry_after(std::string_view text, std::int64_t now_unix) noexcept;
inline constexpr milliseconds kMaxWait = std::chrono::minutes(5);

std::optional<std::string> decode_base64(std::string_view text);
// The first 200 bytes, percent-decoded where they are encoded, without control characters; each
// byte that is not UTF-8 becomes three.
std::string readable(std::string_view text, bool percent);

}  // namespace olly::otlp
