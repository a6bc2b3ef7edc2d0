// What a header block says, as far as anybody here asks for it (RFC 9113 section 8.3, gRPC over
// HTTP/2).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "protocol/common/http.h"
#include "protocol/http2/hpack.h"

namespace olly::http2 {

// The fields whose values are kept. The order is that of kNames in head.cpp.
enum class Name : std::uint8_t {
  none,
  method,
  path,
  scheme,
  authority,
  status,
  host,
  user_agent,
  forwarded,
  x_forwarded_for,
  x_forwarded_proto,
  traceparent,
  tracestate,
  content_type,
  grpc_status,
  grpc_timeout,
};
inline constexpr std::size_t kNames = static_cast<std::size_t>(Name::grpc_timeout) + 1;

// A Classifier.
std::uint8_t name_of(std::string_view name) noexcept;

// One header block. Reused from block to block; the views that it gives last until clear().
class Head {
 public:
  void clear() noexcept;
  void add(const Field& field);

  bool has(Name n) const noexcept { return range(n).count != 0; }
  // Of the first such field; null data when there is none.
  std::string_view get(Name n) const noexcept;
  std::uint8_t count(Name n) const noexcept { return range(n).count; }
  HttpFields fields() const noexcept;

  // A field lay in the part of the table that was not seen: what is missing here may be there.
  bool unknown() const noexcept { return unknown_; }
  bool is_request() const noexcept;
  bool is_response() const noexcept { return has(Name::status); }
  // Three digits, or -1.
  int status() const noexcept;
  // content-type is application/grpc, with or without a suffix or parameter.
  bool is_grpc() const noexcept;
  // grpc-status: 0 to 2^31-1, or -1.
  int grpc_status() const noexcept;
  // grpc-timeout (gRPC over HTTP/2, "Timeout"): nanoseconds, or 0.
  std::uint64_t grpc_timeout() const noexcept;

 private:
  struct Range {
    std::uint32_t offset = 0;
    std::uint32_t size = 0;
    std::uint8_t count = 0;  // saturates
  };
  const Range& range(Name n) const noexcept { return ranges_[static_cast<std::size_t>(n)]; }
  std::string_view text(const Range& r) const noexcept {
    return std::string_view(text_).substr(r.offset, r.size);
  }

  std::array<Range, kNames> ranges_{};
  std::array<Range, 4> tracestate_{};
  std::string text_;
  bool unknown_ = false;
};

}  // namespace olly::http2
