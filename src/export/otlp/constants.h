#pragma once

#include <cstddef>
#include <string_view>

namespace olly::otlp {

inline constexpr std::string_view kScopeName = "olly";
inline constexpr std::string_view kScopeVersion = OLLY_VERSION;
// Of the semantic conventions the attributes follow.
inline constexpr std::string_view kSchemaUrl = "https://opentelemetry.io/schemas/1.44.0";
// gRPC servers refuse messages above 4 MiB by default; some room for what the bound does not see.
inline constexpr std::size_t kMaxRequestBytes = 4 * 1024 * 1024 - 64 * 1024;
// What a buffer for requests may keep between two of them.
inline constexpr std::size_t kKeepBuffer = 2 * kMaxRequestBytes;

}  // namespace olly::otlp
