#include "base/time.h"

#include <ctime>

namespace olly {
namespace {

Nanos read_clock(clockid_t clock) noexcept {
  timespec ts{};
  clock_gettime(clock, &ts);
  return static_cast<Nanos>(ts.tv_sec) * kSecond + static_cast<Nanos>(ts.tv_nsec);
}

}  // namespace

Nanos monotonic_now() noexcept { return read_clock(CLOCK_MONOTONIC); }

Nanos monotonic_to_unix_offset() noexcept {
  // The monotonic clock is read on both sides of the other one, so that a preemption between the
  // two reads shows; the tightest of a few tries is taken.
  Nanos best_gap = ~Nanos{0};
  Nanos best = 0;
  for (int i = 0; i < 5; ++i) {
    const Nanos before = monotonic_now();
    const Nanos unix_now = read_clock(CLOCK_REALTIME);
    const Nanos after = monotonic_now();
    if (after - before < best_gap) {
      best_gap = after - before;
      best = unix_now - (before + (after - before) / 2);
    }
  }
  return best;
}

}  // namespace olly
