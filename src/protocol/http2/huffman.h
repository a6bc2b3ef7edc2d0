// The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B).
#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.h"

namespace olly::http2 {

// Appends the decoded bytes: at most 8/5 of what comes in. False: it holds EOS, or ends with
// padding that is longer than 7 bits or not all ones (5.2); what was appended by then is rubbish.
bool huffman_decode(ByteView bytes, std::string& out) noexcept;

}  // namespace olly::http2
