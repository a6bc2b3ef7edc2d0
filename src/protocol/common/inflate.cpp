#include "protocol/common/inflate.h"

#include <zlib.h>
#include <zstd.h>

namespace olly {
namespace {

// Servers compress with windows of 2 MiB and less (levels up to 12); who asks for more than this
// asks for memory.
constexpr int kMaxWindowLog = 23;
constexpr std::size_t kZlibBytes = 40 * 1024;

}  // namespace

struct Inflater::Libraries {
  z_stream zlib{};
  bool zlib_ready = false;
  ZSTD_DCtx* zstd = nullptr;
  ~Libraries() {
    if (zlib_ready) inflateEnd(&zlib);
    ZSTD_freeDCtx(zstd);
  }
};

Inflater::Inflater() noexcept = default;
Inflater::~Inflater() = default;

bool Inflater::begin(Format format) noexcept {
  if (!libraries_) libraries_ = std::make_unique<Libraries>();
  format_ = format;
  ended_ = broken_ = true;
  if (format == Format::zlib) {
    z_stream& z = libraries_->zlib;
    if (libraries_->zlib_ready) {
      inflateReset(&z);
    } else if (inflateInit(&z) != Z_OK) {
      return false;
    }
    libraries_->zlib_ready = true;
  } else {
    ZSTD_DCtx*& context = libraries_->zstd;
    if (context != nullptr && ZSTD_sizeof_DCtx(context) > kKeptZstd) {
      ZSTD_freeDCtx(context);
      context = nullptr;
    }
    if (context == nullptr) {
      context = ZSTD_createDCtx();
      if (context == nullptr) return false;
      ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, kMaxWindowLog);
    }
    ZSTD_DCtx_reset(context, ZSTD_reset_session_only);
  }
  ended_ = broken_ = false;
  return true;
}

std::size_t Inflater::take(ByteView& in, std::span<std::uint8_t> out) noexcept {
  if (ended_ || out.empty()) return 0;
  return format_ == Format::zlib ? take_zlib(in, out) : take_zstd(in, out);
}

std::size_t Inflater::take_zlib(ByteView& in, std::span<std::uint8_t> out) noexcept {
  z_stream& z = libraries_->zlib;
  z.next_in = const_cast<Bytef*>(in.data());  // the library's interface knows no const
  z.avail_in = static_cast<uInt>(in.size());
  z.next_out = out.data();
  z.avail_out = static_cast<uInt>(out.size());
  const int result = inflate(&z, Z_SYNC_FLUSH);
  in = in.last(z.avail_in);
  broken_ = result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR;
  ended_ = broken_ || result == Z_STREAM_END;
  return broken_ ? 0 : out.size() - z.avail_out;
}

std::size_t Inflater::take_zstd(ByteView& in, std::span<std::uint8_t> out) noexcept {
  ZSTD_inBuffer input{in.data(), in.size(), 0};
  ZSTD_outBuffer output{out.data(), out.size(), 0};
  while (output.pos < output.size && !ended_) {
    const std::size_t before = input.pos + output.pos;
    const std::size_t result = ZSTD_decompressStream(libraries_->zstd, &output, &input);
    broken_ = ZSTD_isError(result) != 0;
    ended_ = broken_ || result == 0;
    if (input.pos + output.pos == before) break;
  }
  in = in.subspan(input.pos);
  return broken_ ? 0 : output.pos;
}

std::size_t Inflater::bytes() const noexcept {
  if (!libraries_) return 0;
  return sizeof(Libraries) + (libraries_->zlib_ready ? kZlibBytes : 0) +
         (libraries_->zstd != nullptr ? ZSTD_sizeof_DCtx(libraries_->zstd) : 0);
}

}  // namespace olly
