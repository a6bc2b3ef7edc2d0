// Time on the data plane is the stamp that the kernel (or the hook) put on an event.
#pragma once

#include <cstdint>

namespace olly {

// Nanoseconds. A point in time is CLOCK_MONOTONIC unless its name says unix.
using Nanos = std::uint64_t;

constexpr Nanos kMicrosecond = 1'000;
constexpr Nanos kMillisecond = 1'000'000;
constexpr Nanos kSecond = 1'000'000'000;

// What to add to a CLOCK_MONOTONIC stamp to get Unix time. Read from the system's two clocks now.
Nanos monotonic_to_unix_offset() noexcept;
Nanos monotonic_now() noexcept;

}  // namespace olly
