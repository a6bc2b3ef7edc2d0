// How exchanges end that got no proper end: the values of olly.incomplete and of error.type that
// all protocols share.
#pragma once

#include <cstdint>
#include <string_view>

#include "protocol/protocol.h"

namespace olly {

inline constexpr std::string_view kLostBytes = "lost bytes";
inline constexpr std::string_view kTimeout = "timeout";
inline constexpr std::string_view kClosed = "connection closed";
inline constexpr std::string_view kEvicted = "evicted";
inline constexpr std::string_view kStopped = "agent stopped";
inline constexpr std::string_view kRevised = "another protocol";
inline constexpr std::string_view kUnreadable = "unreadable";
inline constexpr std::string_view kIgnored = "not observed";

// error.type of a request that was never answered because the connection went away, and of one that
// nobody answered in time.
inline constexpr std::string_view kErrorClosed = "connection_closed";
inline constexpr std::string_view kErrorTimeout = "timeout";

// What olly.incomplete says for each reason that ends a parser.
constexpr std::string_view incomplete_of(EndReason reason) noexcept {
  switch (reason) {
    case EndReason::closed:
      return kClosed;
    case EndReason::evicted:
      return kEvicted;
    case EndReason::stopped:
      return kStopped;
    case EndReason::revised:
      return kRevised;
    case EndReason::unreadable:
      return kUnreadable;
    case EndReason::ignored:
      return kIgnored;
  }
  return kUnreadable;
}

// error.type for the errno (Linux) that a socket ended with; 0 and all others: kErrorClosed.
constexpr std::string_view socket_error(std::uint32_t error) noexcept {
  switch (error) {
    case 32:
      return "EPIPE";
    case 104:
      return "ECONNRESET";
    case 110:
      return "ETIMEDOUT";
    case 113:
      return "EHOSTUNREACH";
    default:
      return kErrorClosed;
  }
}

}  // namespace olly
