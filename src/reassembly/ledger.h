// Every byte that an observed socket moved has one fate (house rule 2):
//   seen = parsed + skipped + gap + evicted + unparsed + pending
#pragma once

#include <array>
#include <cstdint>

namespace olly::reassembly {

enum class Fate : std::uint8_t {
  parsed,    // a parser read it
  skipped,   // part of a body of known length (or known to run to the end of the connection)
  gap,       // moved but not captured, and not skippable
  evicted,   // was waiting when the memory budget threw its connection out
  unparsed,  // of a quiet or unknown connection, or thrown away while looking for a message start
};
inline constexpr std::size_t kFates = 5;

struct ByteLedger {
  std::uint64_t seen = 0;
  std::array<std::uint64_t, kFates> fates{};
  std::uint64_t of(Fate fate) const noexcept { return fates[static_cast<std::size_t>(fate)]; }
  std::uint64_t settled() const noexcept {
    std::uint64_t sum = 0;
    for (const std::uint64_t n : fates) sum += n;
    return sum;
  }
  // What waits for its fate.
  std::uint64_t pending() const noexcept { return seen - settled(); }
};

}  // namespace olly::reassembly
