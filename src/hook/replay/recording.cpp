#include "hook/replay/recording.h"

#include <fmt/format.h>

#include <fstream>
#include <sstream>

#include "hook/replay/parser.h"

namespace olly::replay {

std::optional<Nanos> parse_duration(std::string_view text) {
  static constexpr std::pair<std::string_view, std::uint64_t> kUnits[] = {
      {"ns", 1}, {"us", kMicrosecond}, {"ms", kMillisecond}, {"s", kSecond}, {"m", 60 * kSecond}};
  for (const auto& [unit, scale] : kUnits) {
    if (!text.ends_with(unit)) continue;
    std::string_view digits = text.substr(0, text.size() - unit.size());
    const std::size_t dot = digits.find('.');
    std::uint64_t whole = 0;
    if (!number(digits.substr(0, dot), whole) || whole > ~0ull / 4 / scale) continue;
    Nanos result = whole * scale;
    if (dot != std::string_view::npos) {
      std::uint64_t place = scale;
      if (dot + 1 == digits.size()) return std::nullopt;
      for (const char c : digits.substr(dot + 1)) {
        if (c < '0' || c > '9') return std::nullopt;
        place /= 10;
        result += place * static_cast<std::uint64_t>(c - '0');
      }
    }
    return result;
  }
  return std::nullopt;
}

std::string duration_text(Nanos d) {
  if (d % kSecond == 0) return fmt::format("{}s", d / kSecond);
  if (d % kMillisecond == 0) return fmt::format("{}ms", d / kMillisecond);
  if (d % kMicrosecond == 0) return fmt::format("{}us", d / kMicrosecond);
  return fmt::format("{}ns", d);
}

Result<Recording> parse(std::string_view text, const std::string& file) {
  return Parser(file).run(text);
}

Result<Recording> load(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail(ErrorCode::io, fmt::format("cannot open {}", path));
  std::stringstream content;
  content << in.rdbuf();
  if (content.str().size() > kMaxFile)
    return fail(ErrorCode::limit, fmt::format("{} is too large", path));
  return parse(content.str(), path);
}

}  // namespace olly::replay
