// How much of a message is there, for both directions.
#pragma once

#include <algorithm>

#include "protocol/postgresql/parse.h"
#include "protocol/protocol.h"

namespace olly::postgresql {

// The whole message: what is not in the window need not be read.
inline ParseResult take(const Window& w, const Header& h) noexcept {
  const auto here = static_cast<std::size_t>(std::min<std::uint64_t>(h.size, w.bytes.size()));
  return {ParseStatus::frame, here, h.size - here};
}

// The first `most` bytes of its body, or null while they are not there. The same bytes however the
// message was cut into calls.
inline bool body_of(const Window& w, const Header& h, std::size_t most, ByteView& out) noexcept {
  const auto need = static_cast<std::size_t>(std::min<std::uint64_t>(h.size, kHeader + most));
  if (w.bytes.size() < need) return false;
  out = w.bytes.subspan(kHeader, need - kHeader);
  return true;
}

// Of the last byte that `result` consumes.
inline const IoMark& mark_of_last(const Window& w, const ParseResult& result) noexcept {
  return w.mark_at(w.position + (result.consumed > 0 ? result.consumed - 1 : 0));
}

}  // namespace olly::postgresql
