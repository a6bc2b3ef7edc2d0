#include "protocol/http2/grpc.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "protocol/common/endpoints.h"
#include "traces/semconv.h"

namespace olly::http2 {
namespace {

constexpr std::string_view kSystem = "grpc";
constexpr std::string_view kOther = "_OTHER";  // value of rpc.method

// https://github.com/grpc/grpc/blob/master/doc/statuscodes.md
constexpr std::array<std::string_view, 17> kStatusNames = {
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
};
constexpr int kOk = 0;
constexpr int kPermissionDenied = 7;
constexpr int kResourceExhausted = 8;
constexpr int kInternal = 13;
constexpr int kUnauthenticated = 16;

// "/package.Service/Method", and nothing that a name cannot hold.
std::string_view method_of(std::string_view path) noexcept {
  if (path.size() < 4 || path[0] != '/') return {};
  path.remove_prefix(1);
  const std::size_t slash = path.rfind('/');
  if (slash == std::string_view::npos || slash == 0 || slash + 1 == path.size()) return {};
  const bool clean = std::all_of(path.begin(), path.end(), [](char c) {
    const auto u = static_cast<unsigned char>(c);
    return u > 0x20 && u != 0x7f && c != '?' && c != '#';
  });
  return clean ? path : std::string_view{};
}

void add_messages(AttributeList& out, std::string_view key, const MessageCounter* counter) {
  if (counter == nullptr || !counter->known) return;
  out.add(key, static_cast<std::int64_t>(std::min<std::uint64_t>(counter->messages, INT64_MAX)));
}

}  // namespace

void MessageCounter::take(ByteView& data) noexcept {
  while (known && left == 0 && !data.empty()) {
    const std::uint8_t octet = data[0];
    data = data.subspan(1);
    if (prefix == 0) {
      length = 0;
      known = octet <= 1;  // the compressed flag
      ++prefix;
      continue;
    }
    length = length << 8 | octet;
    if (++prefix < kMessagePrefix) continue;
    prefix = 0;
    left = length;
    ++messages;
  }
}

AttributeList::Text add_grpc_request(Exchange& x, const Connection& c, const Head& head) {
  AttributeList& out = x.attributes;
  out.add(semconv::kRpcSystemName, kSystem);
  const AttributeList::Text method = out.add_text(method_of(head.get(Name::path)));
  x.name = method.size > 0 ? method : out.add_text(kSystem);
  std::string_view authority = head.get(Name::authority);
  if (authority.empty()) authority = head.get(Name::host);
  const Endpoint& server = x.side == Side::server ? c.local : c.remote;
  const bool inet = server.family == Family::inet || server.family == Family::inet6;
  add_http_server(out, authority, inet ? server.port : -1, x.side, c);
  add_peer(out, c);
  add_trace_context(x, head.fields());
  return method;
}

void add_grpc_outcome(Exchange& x, const GrpcOutcome& o) {
  AttributeList& out = x.attributes;
  if (o.method.size > 0) {
    // The server does not have such a method: whatever a caller made up is no name.
    const bool unknown = x.side == Side::server && o.status == kGrpcUnimplemented;
    if (unknown) {
      out.add(semconv::kRpcMethod, kOther);
      out.add(semconv::kRpcMethodOriginal, o.method);
      x.name = out.add_text(kSystem);
    } else {
      out.add(semconv::kRpcMethod, o.method);
    }
  }
  if (o.timeout != 0) out.add(semconv::kRpcTimeout, static_cast<double>(o.timeout) * 1e-9);
  add_messages(out, semconv::kRpcRequestMessages, o.request);
  add_messages(out, semconv::kRpcResponseMessages, o.response);
  if (o.status >= 0) {
    char number[12];
    std::string_view name;
    if (static_cast<std::size_t>(o.status) < kStatusNames.size()) {
      name = kStatusNames[static_cast<std::size_t>(o.status)];
    } else {
      const auto end = std::to_chars(number, number + sizeof number, o.status).ptr;
      name = {number, static_cast<std::size_t>(end - number)};
    }
    out.add(semconv::kRpcResponseStatusCode, name);
    if (o.status == kOk) return;
    out.add(semconv::kErrorType, name);
    x.status = StatusCode::error;
  } else if (!o.error_type.empty()) {
    out.add(semconv::kErrorType, o.error_type);
    x.status = StatusCode::error;
  }
}

int grpc_status_of_http(int status) noexcept {
  switch (status) {
    case 400:
      return kInternal;
    case 401:
      return kUnauthenticated;
    case 403:
      return kPermissionDenied;
    case 404:
      return kGrpcUnimplemented;
    case 429:
    case 502:
    case 503:
    case 504:
      return kGrpcUnavailable;
    default:
      return kGrpcUnknown;
  }
}

int grpc_status_of_reset(std::uint32_t code) noexcept {
  switch (code) {
    case 7:  // REFUSED_STREAM
      return kGrpcUnavailable;
    case 8:  // CANCEL
      return kGrpcCancelled;
    case 11:  // ENHANCE_YOUR_CALM
      return kResourceExhausted;
    case 12:  // INADEQUATE_SECURITY
      return kPermissionDenied;
    default:
      return kInternal;
  }
}

}  // namespace olly::http2
