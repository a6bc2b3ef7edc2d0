#include "protocol/registry.h"

#include <algorithm>

#include "protocol/http1/protocol.h"
#include "protocol/mongodb/protocol.h"
#include "protocol/mysql/protocol.h"
#include "protocol/postgresql/protocol.h"
#include "protocol/redis/protocol.h"

namespace olly {
namespace {

struct Entry {
  const ProtocolInfo& info;
  std::unique_ptr<Protocol> (*make)();
};

constexpr Entry kProtocols[] = {
    {http1::kInfo, &http1::make_protocol},     {redis::kInfo, &redis::make_protocol},
    {mongodb::kInfo, &mongodb::make_protocol}, {postgresql::kInfo, &postgresql::make_protocol},
    {mysql::kInfo, &mysql::make_protocol},
};

}  // namespace

std::vector<ProtocolInfo> protocols() {
  std::vector<ProtocolInfo> all;
  for (const Entry& entry : kProtocols) all.push_back(entry.info);
  return all;
}

std::vector<std::unique_ptr<Protocol>> make_protocols(const std::vector<std::string>& disabled) {
  std::vector<std::unique_ptr<Protocol>> protocols;
  for (const Entry& entry : kProtocols) {
    if (std::find(disabled.begin(), disabled.end(), entry.info.name) == disabled.end()) {
      protocols.push_back(entry.make());
    }
  }
  return protocols;
}

}  // namespace olly
