// What is known of an observed process. Made once per process (and once more after exec), shared by
// everything that came from it, and kept as long as any of that lives.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "traces/span.h"

namespace olly {

// How the process serves requests, as far as its executable tells. Decides which evidence may link.
enum class Runtime : std::uint8_t {
  unknown,      // threads, as far as we know
  socket_loop,  // a pure socket loop: nothing but sockets wakes it (nginx)
  timer_loop,   // an event loop with timers and queues of its own (Node): a thread says nothing
  go,           // goroutines: a thread says nothing, the goroutine id does
};

struct Process {
  std::uint32_t pid = 0;
  std::string exe;      // absolute path, or as good as it is known
  std::string service;  // service.name
  Runtime runtime = Runtime::unknown;
  std::uint32_t goid_offset = 0;  // Go: offset of goid in runtime.g; 0 = not known, so unlinked
  bool observed = true;           // selected by hook.include and hook.exclude
  ResourcePtr resource;
};
using ProcessPtr = std::shared_ptr<const Process>;

class ProcessLookup {
 public:
  virtual ~ProcessLookup() = default;
  // Never null: a process that cannot be read any more is known by its pid and what its events
  // said.
  virtual ProcessPtr process(std::uint32_t pid) noexcept = 0;
};

}  // namespace olly
