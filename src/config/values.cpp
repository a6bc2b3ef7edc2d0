// Durations and sizes as people write them.
#include <fmt/format.h>

#include <array>
#include <charconv>
#include <limits>

#include "config/loader.h"

namespace olly::config {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

template <std::size_t N>
Result<std::uint64_t> parse_with_unit(std::string_view text, const std::array<Unit, N>& units,
                                      std::string_view what, std::string_view allowed) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  if (error == std::errc{}) {
    for (const Unit& u : units) {
      if (u.name != unit) continue;
      if (number > std::numeric_limits<std::int64_t>::max() / u.factor) break;
      return number * u.factor;
    }
  }
  return fail(ErrorCode::config, fmt::format("'{}' is not a {}; allowed: {}", text, what, allowed));
}

}  // namespace

Result<Milliseconds> parse_duration(std::string_view text) {
  constexpr std::array<Unit, 4> kUnits = {
      {{"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}}};
  const auto value = parse_with_unit(text, kUnits, "duration", "500ms, 10s, 1m, 2h");
  if (!value) return std::unexpected(value.error());
  return Milliseconds(static_cast<std::int64_t>(*value));
}

Result<std::uint64_t> parse_size(std::string_view text) {
  constexpr std::array<Unit, 5> kUnits = {
      {{"", 1}, {"B", 1}, {"KiB", 1u << 10}, {"MiB", 1u << 20}, {"GiB", 1u << 30}}};
  return parse_with_unit(text, kUnits, "size", "512, 64KiB, 40MiB, 1GiB");
}

}  // namespace olly::config
