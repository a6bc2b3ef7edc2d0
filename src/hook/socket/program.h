// One attachment: a program (or a forked child of one) and the region that it gave.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/fd.h"
#include "event/event.h"
#include "hook/ebpf/policy.h"
#include "hook/socket/region.h"

namespace olly::preload {

struct Program {
  std::uint32_t pid = 0;
  std::uint32_t uid = 0;
  std::uint32_t netns = 0;
  Nanos since = 0;     // when the agent took its region
  UniqueFd pidfd;      // readable when the process has ended; none: it had ended before we looked
  bool ended = false;  // its process is gone, or it has a newer region: to be read to the end
  bool gone = false;   // the process is gone
  bool observed = true;
  std::unique_ptr<Region> region;
  PolicyTable policy;
  std::vector<std::unique_ptr<SlotReader>> readers;     // of the slots that were used so far
  std::unordered_map<std::uint64_t, SocketId> sockets;  // open ones, by the cookie it names them by
};

}  // namespace olly::preload
