// Every protocol that Olly speaks. registry.cpp has one line for each.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/names.h"
#include "protocol/protocol.h"

namespace olly {

// All but those named (tracing.protocols.<name>.enabled: false).
std::vector<std::unique_ptr<Protocol>> make_protocols(const std::vector<std::string>& disabled);

}  // namespace olly
