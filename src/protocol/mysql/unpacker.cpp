#include "protocol/mysql/unpacker.h"

#include <algorithm>

#include "protocol/mysql/parse.h"

namespace olly::mysql {
namespace {

constexpr std::size_t kMaxInflaters = 16;
// A connection whose content does not wait keeps no more than a packet's beginning.
constexpr std::size_t kKeptRest = 4096;

constexpr std::size_t kTelling = 4;
constexpr std::uint8_t kZstdMagic[kTelling] = {0x28, 0xb5, 0x2f, 0xfd};

bool is_zstd(ByteView packed) noexcept {
  return packed.size() >= sizeof kZstdMagic &&
         std::equal(std::begin(kZstdMagic), std::end(kZstdMagic), packed.begin());
}

// RFC 1950 2.2: deflate, and a check of the two bytes.
bool is_zlib(ByteView packed) noexcept {
  return packed.size() >= 2 && (packed[0] & 0x0f) == 8 && (packed[0] * 256 + packed[1]) % 31 == 0;
}

}  // namespace

std::size_t next_call(const Window& w, std::size_t at) noexcept {
  for (const reassembly::MarkRange& m : w.marks) {
    if (m.begin > w.position + at && m.begin < w.position + w.bytes.size()) {
      return static_cast<std::size_t>(m.begin - w.position);
    }
  }
  return w.bytes.size();
}

void Unpacker::open() {
  if (pool_.work.size() < rest_.size() + kPiece) pool_.work.resize(rest_.size() + kPiece);
  std::copy(rest_.begin(), rest_.end(), pool_.work.begin());
  taken_ = 0;
  size_ = rest_.size();
}

void Unpacker::close() {
  const auto begin = pool_.work.begin() + static_cast<std::ptrdiff_t>(taken_);
  if (taken_ == size_ && rest_.capacity() > kKeptRest) rest_ = {};
  rest_.assign(begin, begin + static_cast<std::ptrdiff_t>(size_ - taken_));
  taken_ = 0;
  size_ = rest_.size();
}

Unpacker::Step Unpacker::next(const Window& w, std::size_t& at, bool request) noexcept {
  if (packed_left_ == 0 && content_left_ == 0) {
    const ByteView bytes = w.bytes.subspan(at);
    if (searching_ && !bytes.empty() && !w.call_begins_at(w.position + at)) {
      at = next_call(w, at);
      return Step::passed;
    }
    if (bytes.size() < kOuterHeader) return Step::more;
    // The first bytes of the content say whether it is what the header says.
    const std::size_t telling = std::min<std::size_t>(packet_header(bytes).length, kTelling);
    if (bytes.size() < kOuterHeader + telling) return Step::more;
    if (!read_header(bytes, w.position + at, request)) {
      end_packet();
      if (searching_) {
        ++at;
        return Step::passed;
      }
      searching_ = true;
      return Step::invalid;
    }
    searching_ = false;
    at += kOuterHeader;
  }
  ByteView packed = w.bytes.subspan(at);
  packed = packed.first(std::min<std::size_t>(packed.size(), packed_left_));
  const std::size_t had = packed.size();
  const std::uint64_t begin = end();
  const bool left = begin > position_;
  const IoMark before = position_ < marks_[1].begin ? marks_[0].mark : marks_[1].mark;
  const bool good = add_piece(packed);
  const std::size_t used = had - packed.size();
  packed_left_ -= static_cast<std::uint32_t>(used);
  at += used;
  const bool moved = end() > begin;
  if (!good || (packed_left_ == 0 && content_left_ > 0 && !moved)) {
    lose();
    return Step::invalid;
  }
  if (!moved && used == 0) return Step::more;
  if (left) marks_[0] = {position_, before};
  marks_[1] = {begin, w.mark_at(w.position + (at > 0 ? at - 1 : 0))};
  skip_content();
  if (packed_left_ == 0 && content_left_ == 0) end_packet();
  return Step::piece;
}

bool Unpacker::read_header(ByteView bytes, std::uint64_t position, bool request) noexcept {
  const PacketHeader h = packet_header(bytes);
  if (h.length == 0) return false;  // and there may be no byte behind the header
  const PacketHeader content = packet_header(bytes.subspan(4));
  const ByteView packed = bytes.subspan(kOuterHeader);
  const std::uint32_t size = content.length;
  // While it is looked for, anything may stand here.
  if (searching_ && ((h.sequence == 0) != request || h.length < kHeaderSize)) return false;
  stored_ = size == 0;
  if (!stored_) {
    const bool zstd = is_zstd(packed);
    if (!zstd && !is_zlib(packed)) return false;
    if (pool_.inflaters.empty()) {
      inflater_ = std::make_unique<Inflater>();
    } else {
      inflater_ = std::move(pool_.inflaters.back());
      pool_.inflaters.pop_back();
    }
    if (!inflater_->begin(zstd ? Inflater::Format::zstd : Inflater::Format::zlib)) return false;
  }
  packet_begin_ = position;
  packet_size_ = static_cast<std::uint32_t>(kOuterHeader) + h.length;
  packed_left_ = h.length;
  content_left_ = stored_ ? h.length : size;
  content_begin_ = end();
  return true;
}

// False: it is broken.
bool Unpacker::add_piece(ByteView& packed) noexcept {
  std::vector<std::uint8_t>& work = pool_.work;
  if (taken_ == size_) {
    taken_ = size_ = 0;
  } else if (taken_ > 0) {
    std::copy(work.begin() + static_cast<std::ptrdiff_t>(taken_),
              work.begin() + static_cast<std::ptrdiff_t>(size_), work.begin());
    size_ -= taken_;
    taken_ = 0;
  }
  if (work.size() < size_ + kPiece) work.resize(size_ + kPiece);
  const std::size_t room = std::min<std::size_t>(kPiece, content_left_);
  std::size_t made = 0;
  if (stored_) {
    made = std::min(room, packed.size());
    std::copy_n(packed.begin(), made, work.begin() + static_cast<std::ptrdiff_t>(size_));
    packed = packed.subspan(made);
  } else if (room > 0) {
    made = inflater_->take(packed, {work.data() + size_, room});
    if (inflater_->broken()) return false;
  } else {
    packed = packed.last(0);  // a check sum
  }
  size_ += made;
  content_left_ -= static_cast<std::uint32_t>(made);
  return true;
}

void Unpacker::skip_content() noexcept {
  const std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(skip_, size_ - taken_));
  taken_ += n;
  position_ += n;
  skip_ -= n;
}

Window Unpacker::content() const noexcept {
  const bool left = position_ < marks_[1].begin;
  const std::span<const reassembly::MarkRange> marks(marks_);
  return {position_, ByteView(pool_.work).subspan(taken_, size_ - taken_),
          left ? marks : marks.last(1)};
}

void Unpacker::take(std::size_t consumed, std::uint64_t skip) noexcept {
  taken_ += consumed;
  position_ += consumed;
  skip_ = skip;
  skip_content();
}

std::uint64_t Unpacker::place(std::uint64_t position) const noexcept {
  if (position < content_begin_) return packet_begin_ - 1;  // it began with the packet before
  return packet_begin_ + std::min<std::uint64_t>(position - content_begin_, packet_size_ - 1);
}

void Unpacker::lose() noexcept {
  end_packet();
  packed_left_ = content_left_ = 0;
  position_ = end();
  taken_ = size_ = 0;
  rest_.clear();
  skip_ = 0;
  held = false;
  searching_ = true;
}

void Unpacker::end_packet() noexcept {
  if (inflater_ && pool_.inflaters.size() < kMaxInflaters)
    pool_.inflaters.push_back(std::move(inflater_));
  inflater_.reset();
}

}  // namespace olly::mysql
