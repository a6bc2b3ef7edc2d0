#include "protocol/mongodb/decompress.h"

#include <algorithm>

#include "protocol/mongodb/bson.h"

namespace olly::mongodb {
namespace {

// A little-endian number of 1 to 4 bytes.
bool read_number(ByteView in, std::size_t& at, std::size_t bytes, std::size_t& value) noexcept {
  if (in.size() - at < bytes) return false;
  value = 0;
  for (std::size_t i = 0; i < bytes; ++i) value |= std::size_t{in[at + i]} << (8 * i);
  at += bytes;
  return true;
}

}  // namespace

std::size_t snappy_prefix(ByteView in, std::size_t size, std::uint8_t* out,
                          std::size_t room) noexcept {
  std::size_t at = 0;
  std::size_t whole = 0;
  for (int shift = 0;; shift += 7) {
    if (at == in.size() || shift > 28) return 0;
    const std::uint8_t byte = in[at++];
    whole |= std::size_t{byte & 0x7fu} << shift;
    if (byte < 0x80) break;
  }
  if (whole != size) return 0;
  const std::size_t end = std::min(room, size);
  std::size_t made = 0;
  while (made < end && at < in.size()) {
    const std::uint8_t tag = in[at++];
    std::size_t length = (tag >> 2) + 1u;
    std::size_t offset = 0;
    switch (tag & 3) {
      case 0: {
        if (length > 60) {
          if (!read_number(in, at, length - 60, length)) return made;
          ++length;
        }
        const std::size_t n = std::min({length, end - made, in.size() - at});
        std::copy_n(in.data() + at, n, out + made);
        made += n;
        at += n;
        if (n < length) return made;  // cut off, or all that is wanted
        continue;
      }
      case 1:
        if (!read_number(in, at, 1, offset)) return made;
        offset |= std::size_t{tag & 0xe0u} << 3;
        length = ((tag >> 2) & 7u) + 4;
        break;
      case 2:
        if (!read_number(in, at, 2, offset)) return made;
        break;
      default:
        if (!read_number(in, at, 4, offset)) return made;
    }
    if (offset == 0 || offset > made) return 0;
    // Byte by byte: the source may reach into what is being made.
    for (length = std::min(length, end - made); length > 0; --length, ++made) {
      out[made] = out[made - offset];
    }
  }
  return made;
}

ByteView Decompressor::prefix(const Compressed& m) noexcept {
  if (m.compressor == 0) return m.bytes.first(std::min<std::size_t>(m.bytes.size(), m.size));
  std::size_t n = 0;
  if (m.compressor == 1) {
    n = snappy_prefix(m.bytes, m.size, out_.data(), out_.size());
  } else if (inflater_.begin(m.compressor == 2 ? Inflater::Format::zlib : Inflater::Format::zstd)) {
    ByteView in = m.bytes;
    n = inflater_.take(in, out_);
  }
  return {out_.data(), std::min<std::size_t>(n, m.size)};
}

}  // namespace olly::mongodb
