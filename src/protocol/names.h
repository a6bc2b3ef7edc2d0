// The names of the protocols that Olly speaks, for those who need no more: the configuration has a
// key for each. They come from registry.cpp.
#pragma once

#include <string_view>
#include <vector>

namespace olly {

// In the order of detection. The text is static.
std::vector<std::string_view> protocol_names();

}  // namespace olly
