#include "export/otlp/compress.h"

#include <libdeflate.h>
#include <zstd.h>

#include <new>

namespace olly::otlp {
namespace {

// The fastest levels: OTLP is repetitive, and the agent's CPU is dearer than the last percent.
constexpr int kDeflateLevel = 1;
constexpr int kZstdLevel = 1;

void free_zstd(ZSTD_CCtx_s* context) { ZSTD_freeCCtx(context); }

}  // namespace

Compressor::Compressor()
    : deflate_(nullptr, &libdeflate_free_compressor), zstd_(nullptr, &free_zstd) {}
Compressor::~Compressor() = default;

std::string_view Compressor::compress(config::Compression how, std::string_view in,
                                      ByteBuffer& scratch) {
  if (how == config::Compression::none) return in;
  scratch.clear();
  std::size_t size = 0;
  char* to = nullptr;
  if (how == config::Compression::gzip) {
    if (!deflate_) deflate_.reset(libdeflate_alloc_compressor(kDeflateLevel));
    if (!deflate_) throw std::bad_alloc();
    const std::size_t bound = libdeflate_gzip_compress_bound(deflate_.get(), in.size());
    to = scratch.reserve(bound);
    size = libdeflate_gzip_compress(deflate_.get(), in.data(), in.size(), to, bound);
    if (size == 0) throw std::bad_alloc();  // the bound is exact: nothing else can fail
  } else {
    if (!zstd_) zstd_.reset(ZSTD_createCCtx());
    if (!zstd_) throw std::bad_alloc();
    const std::size_t bound = ZSTD_compressBound(in.size());
    to = scratch.reserve(bound);
    size = ZSTD_compressCCtx(zstd_.get(), to, bound, in.data(), in.size(), kZstdLevel);
    if (ZSTD_isError(size) != 0) throw std::bad_alloc();
  }
  scratch.advance_to(to + size);
  return scratch.text();
}

}  // namespace olly::otlp
