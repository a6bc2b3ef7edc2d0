// Records of event/abi.h to Events. The kernel is trusted less than one might think: every length
// is checked against what is really there.
#pragma once

#include "base/bytes.h"
#include "event/event.h"

namespace olly {

// Hands the record on to `sink` with time stamp `time` (the record's own, or later where order asks
// for it). `record` is 8-byte aligned. False = malformed, nothing was handed on. A type this
// version does not know is passed over (true).
bool decode_record(ByteView record, Nanos time, EventSink& sink) noexcept;

}  // namespace olly
