// From YAML to Config, key by key, with the place of everything that was said.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/error.h"
#include "config/config.h"
#include "config/loader.h"

namespace olly::config {

// Where a key or section was set: "olly.yaml:3:5", or a variable's name.
using Places = std::map<std::string, std::string, std::less<>>;

// Errors are ErrorCode::config and begin with name:line:column.
Result<void> read_yaml(std::string_view text, std::string_view name, const Environment& environment,
                       Config& config, Places& places);

// One of structures(), from a text like "[{pid: 12}]".
Result<void> read_structure(std::string_view path, std::string_view text, std::string_view name,
                            const Environment& environment, Config& config);

// Later ones replace earlier ones of the same name (case does not count). The error says what a
// header may be.
Result<void> set_header(OtlpExporter& exporter, std::string_view name, std::string_view value);

}  // namespace olly::config
