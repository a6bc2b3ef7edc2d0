#include "protocol/mongodb/bson.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace olly::mongodb {
namespace {

constexpr std::size_t kCut = static_cast<std::size_t>(-1);
constexpr std::size_t kInvalid = static_cast<std::size_t>(-2);

// A length in front and that many bytes; `extra` more belong to the value.
std::size_t counted(ByteView rest, std::uint32_t least, std::size_t extra) noexcept {
  if (rest.size() < 4) return kCut;
  const std::uint32_t n = read_u32(rest);
  if (n < least || n > 0x7fffffffu) return kInvalid;
  return n + extra;
}

std::size_t cstring(ByteView rest) noexcept {
  const std::size_t nul = as_text(rest).find('\0');
  return nul == std::string_view::npos ? kCut : nul + 1;
}

// How long the value is that `rest` begins with.
std::size_t value_size(std::uint8_t type, ByteView rest) noexcept {
  switch (type) {
    case kDouble:
    case 0x09:  // date
    case 0x11:  // timestamp
    case kInt64:
      return 8;
    case kString:
    case 0x0d:  // code
    case 0x0e:  // symbol
      return counted(rest, 1, 4);
    case kDocument:
    case kArray:
    case 0x0f:  // code with scope: its length counts itself
      return counted(rest, kMinDocument, 0);
    case 0x05:  // binary: length, subtype, bytes
      return counted(rest, 0, 5);
    case 0x07:  // object id
      return 12;
    case kBoolean:
      return 1;
    case 0x06:  // undefined
    case 0x0a:  // null
    case 0x7f:  // min key, max key
    case 0xff:
      return 0;
    case 0x0b: {  // regular expression: two strings
      const std::size_t first = cstring(rest);
      if (first == kCut) return kCut;
      const std::size_t second = cstring(rest.subspan(first));
      return second == kCut ? kCut : first + second;
    }
    case 0x0c:  // pointer: string and object id
      return counted(rest, 1, 16);
    case kInt32:
      return 4;
    case 0x13:  // decimal
      return 16;
    default:
      return kInvalid;
  }
}

}  // namespace

std::optional<std::string_view> Element::string() const noexcept {
  if (type != kString || !whole || value.size() < 5 || value.back() != 0) return std::nullopt;
  return as_text(value.subspan(4, value.size() - 5));
}

std::optional<std::int64_t> Element::integer() const noexcept {
  if (!whole) return std::nullopt;
  switch (type) {
    case kInt32:
      return read_i32(value);
    case kInt64:
      return static_cast<std::int64_t>(read_u64(value));
    case kBoolean:
      return value[0] != 0 ? 1 : 0;
    case kDouble: {
      const auto number = std::bit_cast<double>(read_u64(value));
      constexpr double kLimit = 9.0e18;
      if (!(std::abs(number) < kLimit)) return std::nullopt;
      return static_cast<std::int64_t>(number);
    }
    default:
      return std::nullopt;
  }
}

BsonReader::BsonReader(ByteView document) noexcept {
  if (document.size() < 4) {
    broken_ = BsonStatus::cut;
    return;
  }
  const std::uint32_t size = read_u32(document);
  if (size < kMinDocument || size > 0x7fffffffu) {
    broken_ = BsonStatus::invalid;
    return;
  }
  size_ = size;
  bytes_ = document.first(std::min(document.size(), size_));
}

BsonStatus BsonReader::next(Element& e) noexcept {
  if (broken_ != BsonStatus::element) return broken_;
  if (at_ >= bytes_.size()) return bytes_.size() < size_ ? BsonStatus::cut : BsonStatus::invalid;
  e.type = bytes_[at_];
  if (e.type == 0) return at_ + 1 == size_ ? BsonStatus::end : broken_ = BsonStatus::invalid;
  const BsonStatus short_of = bytes_.size() < size_ ? BsonStatus::cut : BsonStatus::invalid;
  const std::size_t name = cstring(bytes_.subspan(at_ + 1));
  if (name == kCut) return broken_ = short_of;
  e.name = as_text(bytes_.subspan(at_ + 1, name - 1));
  const std::size_t begin = at_ + 1 + name;
  const ByteView rest = bytes_.subspan(begin);
  const std::size_t size = value_size(e.type, rest);
  if (size == kCut) return broken_ = short_of;
  // The document's own NUL is behind it.
  if (size == kInvalid || size >= size_ - begin) return broken_ = BsonStatus::invalid;
  e.whole = size <= rest.size();
  e.value = rest.first(std::min(size, rest.size()));
  at_ = begin + size;
  return BsonStatus::element;
}

std::optional<std::uint64_t> count_elements(ByteView document) noexcept {
  BsonReader reader(document);
  Element e;
  std::uint64_t n = 0;
  BsonStatus status = reader.next(e);
  for (; status == BsonStatus::element; status = reader.next(e)) ++n;
  if (status != BsonStatus::end) return std::nullopt;
  return n;
}

}  // namespace olly::mongodb
