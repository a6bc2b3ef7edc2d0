// The environment's part of the configuration: OTEL_* variables, then OLLY_* ones.
#pragma once

#include "config/loader.h"
#include "config/yaml_reader.h"

namespace olly::config {

// A wrong OLLY_ variable is an error, as a wrong key is; a wrong OTEL_ variable is a warning, as
// its specification wants. `places` learns what was set by which variable.
Result<void> apply_environment(Loaded& loaded, const Environment& environment, Places& places);

}  // namespace olly::config
