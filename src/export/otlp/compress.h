// Compression of request bodies. One thread.
#pragma once

#include <memory>
#include <string_view>

#include "config/config.h"
#include "export/buffer.h"

struct libdeflate_compressor;
struct ZSTD_CCtx_s;

namespace olly::otlp {

class Compressor {
 public:
  Compressor();
  ~Compressor();
  // `in` compressed into `scratch`, or `in` itself for Compression::none. Throws std::bad_alloc.
  std::string_view compress(config::Compression how, std::string_view in, ByteBuffer& scratch);

 private:
  std::unique_ptr<libdeflate_compressor, void (*)(libdeflate_compressor*)> deflate_;
  std::unique_ptr<ZSTD_CCtx_s, void (*)(ZSTD_CCtx_s*)> zstd_;
};

// As in Content-Encoding and grpc-encoding.
constexpr std::string_view encoding_name(config::Compression how) noexcept {
  switch (how) {
    case config::Compression::gzip:
      return "gzip";
    case config::Compression::zstd:
      return "zstd";
    case config::Compression::none:
      break;
  }
  return "identity";
}

}  // namespace olly::otlp
