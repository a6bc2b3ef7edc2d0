// W3C Trace Context level 2 (https://www.w3.org/TR/trace-context-2/), the two header values.
#pragma once

#include <string_view>

#include "protocol/exchange.h"

namespace olly {

// Section 3.2. `valid` is false, and nothing else is set, for: a wrong length, upper-case or other
// non-hex digits, version ff, a trace or parent id of zeros, version 00 with anything behind the
// flags. A higher version is read like 00 when what follows the flags begins with '-' (4.3). The
// value has no surrounding white space.
TraceParent parse_traceparent(std::string_view value) noexcept;

// Section 3.3: at most 32 members, each key=value in the allowed characters, no key twice, empty
// members and white space around them allowed. An invalid list is dropped as a whole; the
// traceparent counts all the same.
bool valid_tracestate(std::string_view value) noexcept;

}  // namespace olly
