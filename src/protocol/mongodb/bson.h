// Reads BSON documents where they lie (bsonspec.org, version 1.1). A document may be cut off
// anywhere: what is there is read, and that it ends too early is said. Nothing is copied, nothing
// is descended into: a value that is a document is read by a reader of its own, so depth costs
// nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/bytes.h"

namespace olly::mongodb {

constexpr std::uint32_t read_u32(ByteView b, std::size_t at = 0) noexcept {
  return static_cast<std::uint32_t>(b[at]) | static_cast<std::uint32_t>(b[at + 1]) << 8 |
         static_cast<std::uint32_t>(b[at + 2]) << 16 | static_cast<std::uint32_t>(b[at + 3]) << 24;
}
constexpr std::int32_t read_i32(ByteView b, std::size_t at = 0) noexcept {
  return static_cast<std::int32_t>(read_u32(b, at));
}
constexpr std::uint64_t read_u64(ByteView b, std::size_t at = 0) noexcept {
  return read_u32(b, at) | static_cast<std::uint64_t>(read_u32(b, at + 4)) << 32;
}

// The types that are looked into; all others are only passed over.
inline constexpr std::uint8_t kDouble = 0x01;
inline constexpr std::uint8_t kString = 0x02;
inline constexpr std::uint8_t kDocument = 0x03;
inline constexpr std::uint8_t kArray = 0x04;
inline constexpr std::uint8_t kBoolean = 0x08;
inline constexpr std::uint8_t kInt32 = 0x10;
inline constexpr std::uint8_t kInt64 = 0x12;
// The smallest document: its length and a NUL.
inline constexpr std::size_t kMinDocument = 5;

struct Element {
  std::uint8_t type = 0;
  std::string_view name;
  ByteView value;      // as much of it as there is
  bool whole = false;  // all of it

  // The text of a string that is whole.
  std::optional<std::string_view> string() const noexcept;
  // Any number or boolean, cut to an integer; one that does not fit, and NaN, is none.
  std::optional<std::int64_t> integer() const noexcept;
  bool is_document() const noexcept { return type == kDocument || type == kArray; }
};

enum class BsonStatus : std::uint8_t {
  element,
  end,      // the document is over, and was whole
  cut,      // the bytes end before it
  invalid,  // no BSON
};

class BsonReader {
 public:
  // `document` begins with its length; bytes behind it are left alone.
  explicit BsonReader(ByteView document) noexcept;
  BsonStatus next(Element& element) noexcept;
  // As the document says; 0 when even that is cut off or impossible.
  std::size_t size() const noexcept { return size_; }

 private:
  ByteView bytes_;
  std::size_t size_ = 0;
  std::size_t at_ = 4;
  BsonStatus broken_ = BsonStatus::element;
};

// How many elements (of an array: values) it has; none unless it is whole and valid.
std::optional<std::uint64_t> count_elements(ByteView document) noexcept;

}  // namespace olly::mongodb
