// OTLP strings must be valid UTF-8: a strict receiver refuses a whole request for one bad byte.
#pragma once

#include <cstddef>
#include <string_view>

#include "export/buffer.h"

namespace olly {

// Every byte below 0x80.
bool is_ascii(std::string_view text) noexcept;
// Printable ASCII without `"` and `\`: goes into a JSON string (and a terminal) as it is.
bool is_plain(std::string_view text) noexcept;
bool is_valid_utf8(std::string_view text) noexcept;

// `text` itself when it is valid UTF-8, else a copy in `scratch` (appended to it) in which each
// maximal invalid part is U+FFFD (Unicode 15, 3.9, "substitution of maximal subparts"). The copy
// is at most three times as long as `text`.
std::string_view to_valid_utf8(std::string_view text, ByteBuffer& scratch);

// Length of the valid sequence at the start of `text` (1 to 4), or 0 when it is invalid; then
// `bad` is how many bytes its maximal invalid part has (at least 1). `text` is not empty.
std::size_t utf8_sequence(std::string_view text, std::size_t& bad) noexcept;

}  // namespace olly
