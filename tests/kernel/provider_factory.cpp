// The one place where the tests know which class they test.
#include <bpf/bpf.h>
#include <unistd.h>

#include <cstring>

#include "base/fd.h"
#include "harness.h"
#include "hook/ebpf/ebpf_provider.h"

namespace olly::kernel_test {
namespace {

struct WithRegistry {
  MetricRegistry registry;
};

EbpfOptions ebpf_options(MetricRegistry& registry, std::uint32_t ring_bytes, bool observe_unknown) {
  EbpfOptions result;
  result.capture = options().backend == Backend::sockio ? config::CaptureChoice::sockio
                                                        : config::CaptureChoice::syscall;
  if (ring_bytes != 0) result.ring_bytes = ring_bytes;
  result.observe_unknown = observe_unknown;
  result.all_new = !observe_unknown;
  result.registry = &registry;
  return result;
}

class CountedProvider final : private WithRegistry, public EbpfProvider {
 public:
  CountedProvider(std::uint32_t ring_bytes, bool observe_unknown)
      : EbpfProvider(ebpf_options(registry, ring_bytes, observe_unknown)) {}

  std::uint64_t dropped() {
    std::uint64_t sum = 0;
    registry.visit([&](const MetricRegistry::Sample& sample) {
      if (sample.name == "olly_drops_total") sum += static_cast<std::uint64_t>(sample.value);
    });
    return sum;
  }
};

}  // namespace

std::unique_ptr<Provider> make_provider(std::uint32_t ring_bytes, bool observe_unknown) {
  return std::make_unique<CountedProvider>(ring_bytes, observe_unknown);
}

std::uint64_t dropped_records(Provider& provider) {
  return static_cast<CountedProvider&>(provider).dropped();
}

std::optional<std::uint64_t> state_entries() {
  std::optional<std::uint64_t> entries;
  for (std::uint32_t id = 0; bpf_map_get_next_id(id, &id) == 0;) {
    const UniqueFd map(bpf_map_get_fd_by_id(id));
    bpf_map_info info{};
    std::uint32_t length = sizeof info;
    if (!map || bpf_obj_get_info_by_fd(map.get(), &info, &length) != 0) continue;
    if (info.type != BPF_MAP_TYPE_LRU_HASH || std::strcmp(info.name, "conns") != 0) continue;
    // Ids only grow: the last one is the latest provider's.
    entries = 0;
    std::uint64_t key = 0, next = 0;
    for (void* at = nullptr; bpf_map_get_next_key(map.get(), at, &next) == 0; at = &key) {
      ++*entries;
      key = next;
    }
  }
  return entries;
}

}  // namespace olly::kernel_test
