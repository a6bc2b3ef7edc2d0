#include "protocol/registry.h"

#include <algorithm>

#include "protocol/http1/protocol.h"

namespace olly {
namespace {

struct Entry {
  std::string_view name;
  std::unique_ptr<Protocol> (*make)();
};

constexpr Entry kProtocols[] = {
    {"http", &http1::make_protocol},
};

}  // namespace

std::vector<std::string_view> protocol_names() {
  std::vector<std::string_view> names;
  for (const Entry& entry : kProtocols) names.push_back(entry.name);
  return names;
}

std::vector<std::unique_ptr<Protocol>> make_protocols(const std::vector<std::string>& disabled) {
  std::vector<std::unique_ptr<Protocol>> protocols;
  for (const Entry& entry : kProtocols) {
    if (std::find(disabled.begin(), disabled.end(), entry.name) == disabled.end()) {
      protocols.push_back(entry.make());
    }
  }
  return protocols;
}

}  // namespace olly
