// What Olly speaks, for those who need no more than its name: the configuration has a key for each
// protocol, the documents have a row. All of it comes from registry.cpp.
#pragma once

#include <string_view>
#include <vector>

namespace olly {

struct ProtocolInfo {
  std::string_view name;   // in the configuration: tracing.protocols.<name>
  std::string_view title;  // for people
  std::string_view covered;
  std::string_view uncovered;  // what is known and left out; Markdown, as `covered`
};

// In the order of detection. The text is static.
std::vector<ProtocolInfo> protocols();

}  // namespace olly
