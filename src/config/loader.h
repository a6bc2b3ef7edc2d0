// Fills a Config from YAML and the environment. Precedence, later wins: defaults, the file, OTEL_*
// variables, OLLY_* variables. Keys, ranges and meanings: docs/configuration.md.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "config/config.h"

namespace olly::config {

using Environment = std::map<std::string, std::string>;

struct Loaded {
  Config config;
  std::vector<std::string> warnings;
};

// `name` is what errors call the text ("olly.yaml"). Errors are ErrorCode::config and begin with
// name:line:column, or with the variable's name. ${VAR} and ${VAR:-default} in scalars are expanded
// before a value is typed; $$ is a dollar sign. A text larger than kMaxText is refused.
inline constexpr std::size_t kMaxText = 1024 * 1024;
Result<Loaded> load(std::string_view yaml, std::string_view name, const Environment& environment);

// The same with the text of a file.
Result<Loaded> load_file(const std::string& path, const Environment& environment);

Environment process_environment();

// "500ms", "10s", "1m", "2h". "64KiB", "40MiB", "1GiB", "512" (bytes).
Result<Milliseconds> parse_duration(std::string_view text);
Result<std::uint64_t> parse_size(std::string_view text);
// The same, written with the largest unit that fits: "2s", "16KiB".
std::string duration_text(Milliseconds value);
std::string size_text(std::uint64_t value);

}  // namespace olly::config
