// From a finished, linked exchange to the span that leaves.
#pragma once

#include "traces/node.h"
#include "traces/stitcher.h"

namespace olly {

// Olly's own attributes.
inline constexpr std::string_view kLinkMethod = "olly.link.method";
inline constexpr std::string_view kIncomplete = "olly.incomplete";
inline constexpr std::string_view kTimeCpu = "olly.time.cpu";
inline constexpr std::string_view kTimeRunqueue = "olly.time.runqueue";
inline constexpr std::string_view kTimeBlocked = "olly.time.blocked";

// OTLP Span.flags: W3C flags, then what is known about the parent's place.
inline constexpr std::uint32_t kFlagHasIsRemote = 0x100;
inline constexpr std::uint32_t kFlagIsRemote = 0x200;

// First and last moment of the exchange at the observed end. An exchange without an end ends with
// the last thing that is known of it; never before it began.
void set_times(Node& node) noexcept;

// Adds olly.* and fills in a Span that points into the node. Causality corrects late send stamps: a
// CLIENT began no later than its SERVER, and a SERVER's response was written before its CLIENT had
// read it.
Span build_span(Node& node, Nanos unix_offset) noexcept;

}  // namespace olly
