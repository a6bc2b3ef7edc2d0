// What says that bytes are HTTP/2.
#pragma once

#include "base/bytes.h"
#include "protocol/http2/frame.h"
#include "protocol/protocol.h"

namespace olly::http2 {

// The first bytes of a direction, or of a call on a connection that was met in its middle. Certain
// for the client's preface. Else a whole SETTINGS frame with settings in it; a header block that
// begins with a pseudo-header field, decodes and ends its frame (a very short one needs another
// frame behind it); or one of the two (empty SETTINGS will do) together with another plausible
// frame.
Verdict looks_like_http2(ByteView bytes) noexcept;

// Whether this HEADERS frame can begin a request or a response of a connection whose tables are not
// known; `trailers`: or be any other.
bool is_header_block(const FrameHeader& header, ByteView payload, bool trailers) noexcept;

// After a loss: whether frames seem to begin at the front of `bytes` (at least kFrameHeader). Yes:
// three plausible headers in a row; or two frames, the last of which ends where the bytes end; or,
// where a call begins, one whole frame that is no DATA, or DATA of a stream that is known to be
// open. Anything is need_more where a call begins and the bytes end inside such a frame.
Verdict frames_begin_at(ByteView bytes, bool call_begins, bool stream_open) noexcept;

}  // namespace olly::http2
