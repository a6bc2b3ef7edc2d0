// HTTP/1.0 and 1.1 as a Protocol. README.md has the wire format in brief.
#pragma once

#include <memory>

#include "protocol/protocol.h"

namespace olly::http1 {

std::unique_ptr<Protocol> make_protocol();

}  // namespace olly::http1
