#include "protocol/registry.h"

#include <algorithm>
#include <array>
#include <span>

#include "protocol/http1/protocol.h"
#include "protocol/http2/protocol.h"
#include "protocol/mongodb/protocol.h"
#include "protocol/mysql/protocol.h"
#include "protocol/postgresql/protocol.h"
#include "protocol/redis/protocol.h"

namespace olly {
namespace {

// A protocol that carries others, which only it can tell apart, has an info and so a switch for
// each of them; it is told by them which are on, and made when any is.
struct Entry {
  using Make = std::unique_ptr<Protocol> (*)();
  using MakeSome = std::unique_ptr<Protocol> (*)(std::span<const bool> enabled);

  constexpr Entry(const ProtocolInfo& info, Make make) : infos(&info, 1), make(make) {}
  constexpr Entry(std::span<const ProtocolInfo> infos, MakeSome make)
      : infos(infos), make_some(make) {}

  std::span<const ProtocolInfo> infos;
  Make make = nullptr;
  MakeSome make_some = nullptr;
};

constexpr Entry kProtocols[] = {
    {http1::kInfo, &http1::make_protocol},           {http2::kInfos, &http2::make_protocol},
    {redis::kInfo, &redis::make_protocol},           {mongodb::kInfo, &mongodb::make_protocol},
    {postgresql::kInfo, &postgresql::make_protocol}, {mysql::kInfo, &mysql::make_protocol},
};

constexpr std::size_t kMaxInfos = 4;
static_assert(std::ranges::all_of(kProtocols,
                                  [](const Entry& e) { return e.infos.size() <= kMaxInfos; }));

}  // namespace

std::vector<ProtocolInfo> protocols() {
  std::vector<ProtocolInfo> all;
  for (const Entry& entry : kProtocols)
    all.insert(all.end(), entry.infos.begin(), entry.infos.end());
  return all;
}

std::vector<std::unique_ptr<Protocol>> make_protocols(const std::vector<std::string>& disabled) {
  std::vector<std::unique_ptr<Protocol>> protocols;
  for (const Entry& entry : kProtocols) {
    std::array<bool, kMaxInfos> on{};
    bool any = false;
    for (std::size_t i = 0; i < entry.infos.size(); ++i) {
      on[i] = std::find(disabled.begin(), disabled.end(), entry.infos[i].name) == disabled.end();
      any |= on[i];
    }
    if (!any) continue;
    const std::span<const bool> enabled(on.data(), entry.infos.size());
    protocols.push_back(entry.make != nullptr ? entry.make() : entry.make_some(enabled));
  }
  return protocols;
}

}  // namespace olly
