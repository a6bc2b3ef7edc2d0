// Every protocol that Olly speaks. registry.cpp has one line for each.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/protocol.h"

namespace olly {

// The names, in the order of detection.
std::vector<std::string_view> protocol_names();

// `enabled`: tracing.protocols; what it does not name is on.
std::vector<std::unique_ptr<Protocol>> make_protocols(const std::map<std::string, bool>& enabled);

}  // namespace olly
