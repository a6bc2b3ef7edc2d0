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

// From small to large.
constexpr std::array<Unit, 4> kDurations = {
    {{"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}}};
constexpr std::array<Unit, 5> kSizes = {
    {{"", 1}, {"B", 1}, {"KiB", 1u << 10}, {"MiB", 1u << 20}, {"GiB", 1u << 30}}};

template <std::size_t N>
std::string with_largest_unit(std::uint64_t value, const std::array<Unit, N>& units) {
  const Unit* best = &units.front();
  for (const Unit& u : units) {
    if (value != 0 && value % u.factor == 0) best = &u;
  }
  return fmt::format("{}{}", value / best->factor, best->name);
}

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
  const auto value = parse_with_unit(text, kDurations, "duration", "500ms, 10s, 1m, 2h");
  if (!value) return std::unexpected(value.error());
  return Milliseconds(static_cast<std::int64_t>(*value));
}

Result<std::uint64_t> parse_size(std::string_view text) {
  return parse_with_unit(text, kSizes, "size", "512, 64KiB, 40MiB, 1GiB");
}

std::string duration_text(Milliseconds value) {
  return with_largest_unit(static_cast<std::uint64_t>(value.count()), kDurations);
}
std::string size_text(std::uint64_t value) { return with_largest_unit(value, kSizes); }

}  // namespace olly::config
