#include "protocol/mongodb/decompress.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>

#include "protocol/mongodb/bson.h"

namespace olly::mongodb {
namespace {

// A server compresses with windows of 2 MiB and less (levels up to 12); who asks for more than this
// asks for memory.
constexpr int kMaxWindowLog = 23;
constexpr std::size_t kKeptZstd = 1024 * 1024;

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

struct Decompressor::Libraries {
  z_stream zlib{};
  bool zlib_ready = false;
  ZSTD_DCtx* zstd = nullptr;
  ~Libraries() {
    if (zlib_ready) inflateEnd(&zlib);
    ZSTD_freeDCtx(zstd);
  }
};

Decompressor::Decompressor() noexcept = default;
Decompressor::~Decompressor() = default;

ByteView Decompressor::prefix(const Compressed& m) noexcept {
  if (m.compressor == 0) return m.bytes.first(std::min<std::size_t>(m.bytes.size(), m.size));
  std::size_t n = 0;
  if (m.compressor == 1) {
    n = snappy_prefix(m.bytes, m.size, out_.data(), out_.size());
  } else {
    if (!libraries_) libraries_ = std::make_unique<Libraries>();
    n = m.compressor == 2 ? zlib(m.bytes) : zstd(m.bytes);
  }
  return {out_.data(), std::min<std::size_t>(n, m.size)};
}

std::size_t Decompressor::zlib(ByteView in) noexcept {
  z_stream& z = libraries_->zlib;
  if (!libraries_->zlib_ready) {
    if (inflateInit(&z) != Z_OK) return 0;
    libraries_->zlib_ready = true;
  } else {
    inflateReset(&z);
  }
  z.next_in = const_cast<Bytef*>(in.data());  // the library's interface knows no const
  z.avail_in = static_cast<uInt>(in.size());
  z.next_out = out_.data();
  z.avail_out = static_cast<uInt>(out_.size());
  const int result = inflate(&z, Z_SYNC_FLUSH);
  if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) return 0;
  return out_.size() - z.avail_out;
}

std::size_t Decompressor::zstd(ByteView in) noexcept {
  ZSTD_DCtx*& context = libraries_->zstd;
  if (context == nullptr) {
    context = ZSTD_createDCtx();
    if (context == nullptr) return 0;
    ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, kMaxWindowLog);
  }
  ZSTD_DCtx_reset(context, ZSTD_reset_session_only);
  ZSTD_inBuffer input{in.data(), in.size(), 0};
  ZSTD_outBuffer output{out_.data(), out_.size(), 0};
  while (output.pos < output.size) {
    const std::size_t before = input.pos + output.pos;
    const std::size_t result = ZSTD_decompressStream(context, &output, &input);
    if (ZSTD_isError(result) != 0) {
      output.pos = 0;
      break;
    }
    if (result == 0 || input.pos + output.pos == before) break;
  }
  if (ZSTD_sizeof_DCtx(context) > kKeptZstd) {
    ZSTD_freeDCtx(context);
    context = nullptr;
  }
  return output.pos;
}

}  // namespace olly::mongodb
