// How a destination is told to end, in a form that poll() can wait for: whatever it is blocked in
// (connect, read, write, back-off) watches the descriptor too.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <string_view>

#include "base/fd.h"

namespace olly {

using SteadyClock = std::chrono::steady_clock;
using Deadline = SteadyClock::time_point;

// Milliseconds for poll() until `deadline`, rounded up so that a wait does not end just before it.
int poll_timeout(Deadline deadline, Deadline now = SteadyClock::now()) noexcept;

// Set once, from any thread; seen by any.
class StopFlag {
 public:
  StopFlag();
  void set() noexcept;
  bool is_set() const noexcept { return set_.load(std::memory_order_acquire); }
  // Readable once set. -1 when the system had no descriptor left: waits then end on their own time.
  int fd() const noexcept { return fd_.get(); }
  // True when set before `deadline`.
  bool wait_until(Deadline deadline) const noexcept;

 private:
  UniqueFd fd_;
  std::atomic<bool> set_{false};
};

struct StopSignals {
  StopFlag closing;  // send what is left, but do not wait long for a destination that is down
  StopFlag abort;    // return from whatever is being done now
};

// Writes everything, or as much as went before an error or abort. Returns the bytes written; errno
// tells why it is short (ECANCELED: abort). A `regular` file is written in one go; anything else
// (a pipe, a terminal) in pieces that poll() said would not block. The caller's thread blocks
// SIGPIPE.
std::size_t write_all(int fd, std::string_view bytes, bool regular, const StopFlag& abort) noexcept;
bool is_regular_file(int fd) noexcept;

}  // namespace olly
