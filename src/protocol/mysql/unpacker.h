// The compressed protocol (MySQL: "Compression"; MariaDB: "0-packet"). From the end of the login on
// packets are the content of others, whose header has 7 bytes: 3 bytes length, 1 byte sequence id
// of their own, 3 bytes length of the content before it was compressed (0: it is not compressed).
// Packets begin and end anywhere in the content.
//
// One per direction: gives out the content piece by piece, each with the mark of the call that
// moved it. Bounded: a piece is at most kPiece bytes, and what its reader leaves of it stays.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "protocol/common/inflate.h"
#include "protocol/protocol.h"

namespace olly::mysql {

inline constexpr std::size_t kOuterHeader = 7;
inline constexpr std::size_t kPiece = 16 * 1024;

// Where the first call behind w.bytes[at] begins; the window's end if there is none.
std::size_t next_call(const Window& w, std::size_t at) noexcept;

// What all connections share: they run on one thread.
struct UnpackerPool {
  std::vector<std::unique_ptr<Inflater>> inflaters;
  std::vector<std::uint8_t> work;  // what was left, and a piece behind it
};

class Unpacker {
 public:
  explicit Unpacker(UnpackerPool& pool) noexcept : pool_(pool) {}
  ~Unpacker() { end_packet(); }
  Unpacker(const Unpacker&) = delete;
  Unpacker& operator=(const Unpacker&) = delete;

  // Between open() and close() the pool is this one's.
  void open();
  void close();

  enum class Step : std::uint8_t {
    piece,    // there is more content; or some of it was passed over
    more,     // the bytes end too early
    passed,   // bytes were passed over while looking for a header
    invalid,  // this is no compressed packet: a header is looked for from here on
  };
  // Reads on at w.bytes[at], which moves behind what was taken.
  Step next(const Window& w, std::size_t& at, bool request) noexcept;
  // What has not been taken yet, at positions of its own.
  Window content() const noexcept;
  // Some of it was read, and `skip` bytes behind that need not be.
  void take(std::size_t consumed, std::uint64_t skip) noexcept;
  // The skip is not over yet.
  bool skipping() const noexcept { return skip_ > 0; }
  // A packet's content begins at that position.
  bool begins_at(std::uint64_t position) const noexcept { return position == content_begin_; }
  // Where on the connection a byte of the content came: the same at both ends.
  std::uint64_t place(std::uint64_t position) const noexcept;

  // Bytes were lost.
  void lose() noexcept;
  std::size_t bytes() const noexcept { return sizeof *this + rest_.capacity() + inflater_bytes(); }

  // The content waits for the other direction; of what brought it one byte is not given up yet.
  bool held = false;

 private:
  bool read_header(ByteView bytes, std::uint64_t position, bool request) noexcept;
  bool add_piece(ByteView& packed) noexcept;
  void skip_content() noexcept;
  void end_packet() noexcept;
  std::uint64_t end() const noexcept { return position_ + (size_ - taken_); }
  std::size_t inflater_bytes() const noexcept { return inflater_ ? inflater_->bytes() : 0; }

  UnpackerPool& pool_;
  std::unique_ptr<Inflater> inflater_;          // of a compressed packet
  std::vector<std::uint8_t> rest_;              // outside of open() and close()
  std::array<reassembly::MarkRange, 2> marks_;  // of what was left, and of the piece
  std::size_t taken_ = 0;
  std::size_t size_ = 0;             // of pool_.work, in use
  std::uint64_t position_ = 0;       // of pool_.work[taken_]
  std::uint64_t skip_ = 0;           // of the content to come
  std::uint64_t packet_begin_ = 0;   // the packet under way, on the connection
  std::uint64_t content_begin_ = 0;  // its content
  std::uint32_t packet_size_ = 0;
  std::uint32_t packed_left_ = 0;
  std::uint32_t content_left_ = 0;
  bool stored_ = false;  // its content is not compressed
  bool searching_ = false;
};

}  // namespace olly::mysql
