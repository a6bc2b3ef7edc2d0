// Every scalar key of the configuration: its place in Config, what it may hold, and what the
// reference page says of it. One table, from which the loader, the OLLY_* names and
// docs/configuration.md come.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "config/config.h"

namespace olly::config {

struct Key {
  std::string path;              // "hook.ebpf.capture"
  std::string_view type;         // "string", "boolean", "duration", "size", "integer", or "a|b|c"
  std::string_view fallback;     // the default, as written
  std::string_view description;  // one sentence
  // Sets it from its text; the error says what is allowed.
  std::function<Result<void>(Config&, std::string_view text)> set;
};

// Keys that are in effect.
std::span<const Key> keys();
// Keys that are no scalars; the loader reads them. Same columns.
struct Structure {
  std::string_view path, type, fallback, description;
};
std::span<const Structure> structures();
// Paths (and sections) of later versions: refused as not supported yet.
std::span<const std::string_view> unsupported();
bool is_unsupported(std::string_view path) noexcept;
// '*', HOST[:PORT] (HOST with * and ?), ADDRESS[/BITS][:PORT], [V6ADDRESS[/BITS]]:PORT.
Result<Destination> parse_destination(std::string_view text);
inline constexpr std::size_t kMaxDestinations = 24;
const Key* find_key(std::string_view path);
// Whether `path` is `section` or below it.
bool is_under(std::string_view path, std::string_view section) noexcept;

}  // namespace olly::config
