// Is it Redis? Requests alone can tell: replies look like those of POP3 ("+OK") and of others.
#pragma once

#include <string_view>

#include "base/bytes.h"
#include "protocol/protocol.h"

namespace olly::redis {

// The beginning of a command as an array of bulk strings. yes: a known command; maybe: a word that
// may be one (modules have their own).
Verdict looks_like_command(ByteView bytes) noexcept;

// What the reply to an inline command must look like to be evidence.
struct Probe {
  std::string_view name;
  int least;  // words
  int most;
  std::string_view reply;  // its type; or, if longer, all of it
};

// An inline command, as a person types it. Too many protocols have such lines, so at most maybe: it
// takes a reply that this command gets and no other protocol gives (fits). AUTH, QUIT, HELP and the
// like are no evidence. `probe` is set on maybe; it is static.
Verdict looks_like_inline(ByteView bytes, const Probe*& probe) noexcept;

// Whether the bytes begin with a reply as it must be.
Verdict fits(const Probe& probe, ByteView reply) noexcept;

}  // namespace olly::redis
