// Compressed bytes, a piece at a time: zlib (RFC 1950) and zstd (RFC 8878). Never makes more than
// there is room for, so that who feeds it bounds what comes out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/bytes.h"

namespace olly {

// What a library needs is allocated when it is first used, and kept: zlib 40 KiB, zstd at most
// kKeptZstd.
class Inflater {
 public:
  enum class Format : std::uint8_t { zlib, zstd };
  static constexpr std::size_t kKeptZstd = 1024 * 1024;

  Inflater() noexcept;
  ~Inflater();
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  // A new stream begins. False: no memory.
  bool begin(Format format) noexcept;
  // Takes from the front of `in` what it needs to fill `out`; returns how many bytes were made. No
  // progress in either: it needs more of the stream, or that has ended or is broken.
  std::size_t take(ByteView& in, std::span<std::uint8_t> out) noexcept;
  // It was no such stream. Nothing more comes out.
  bool broken() const noexcept { return broken_; }
  std::size_t bytes() const noexcept;

 private:
  struct Libraries;
  std::size_t take_zlib(ByteView& in, std::span<std::uint8_t> out) noexcept;
  std::size_t take_zstd(ByteView& in, std::span<std::uint8_t> out) noexcept;

  std::unique_ptr<Libraries> libraries_;
  Format format_ = Format::zlib;
  bool ended_ = true;
  bool broken_ = false;
};

}  // namespace olly
