// The first bytes of a compressed message (OP_COMPRESSED: 0 none, 1 snappy, 2 zlib, 3 zstd), and no
// more of them than are read.
#pragma once

#include <array>
#include <cstdint>

#include "base/bytes.h"
#include "protocol/common/inflate.h"
#include "protocol/mongodb/parse.h"

namespace olly::mongodb {

// snappy's raw format (google/snappy, format_description.txt) into `out`, as far as both go.
// Returns how many bytes were made; 0: not snappy, or nothing was there. `size` is what the message
// says it is uncompressed: snappy says it too.
std::size_t snappy_prefix(ByteView in, std::size_t size, std::uint8_t* out,
                          std::size_t room) noexcept;

// One for all connections of a Tracker.
class Decompressor {
 public:
  // At most kMaxRead bytes, fewer where the compressed bytes end too early; none: not readable
  // (zstd needs its whole first block, up to 128 KiB of the message). Valid until the next call.
  ByteView prefix(const Compressed& message) noexcept;

 private:
  Inflater inflater_;
  std::array<std::uint8_t, kMaxRead> out_{};
};

}  // namespace olly::mongodb
