// HPACK (RFC 7541), the decoder of one direction of one connection, for someone who reads along.
//
// Reading along differs from taking part in two ways. The dynamic table may have a part that was
// never seen: a connection met in its middle, or lost bytes. A field that refers to it is told as
// unknown, never guessed; what is inserted from then on is exact again, because indices count from
// the newest entry. And the encoder's limit needs no guarding: its size updates say how large the
// table is; SETTINGS_HEADER_TABLE_SIZE only allows them (4.2), and reaches us in another
// direction's order. A table larger than kMaxTable is followed by its newest kMaxTable bytes.
//
// Values are private: the table keeps only those of fields that the classifier asks for.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace olly::http2 {

// Bytes of dynamic table that are followed, by HPACK's own account (4.1).
inline constexpr std::uint32_t kMaxTable = 64 * 1024;
inline constexpr std::uint32_t kInitialTable = 4096;  // RFC 9113 6.5.2

struct Field {
  bool known = true;       // false: name and value lie in a part of the table that was not seen
  bool value_kept = true;  // false: the table did not keep it (or only the name is known)
  bool never_indexed = false;
  std::uint8_t kind = 0;  // what the classifier said of the name
  std::string_view name;  // valid during the call
  std::string_view value;
};

enum class HpackError : std::uint8_t {
  none,
  truncated,    // the block ends inside a field
  bad_integer,  // more than 2^32-1 (5.1)
  bad_index,    // 0, or beyond a table that is known as a whole (2.3.3)
  bad_huffman,  // 5.2
  late_resize,  // a size update behind a field (4.2)
  bad_resize,   // more than two of them (4.2)
};
std::string_view to_string(HpackError error) noexcept;

// 0: this name's values are of no interest.
using Classifier = std::uint8_t (*)(std::string_view name);

// Section 2.3.2. About 48 bytes while it is empty.
class DynamicTable {
 public:
  struct Entry {
    std::uint64_t text = 0;  // position of the name in the text ever stored
    std::uint32_t name_size = 0;
    std::uint32_t value_size = 0;  // 0 when it is not kept
    std::uint32_t cost = 0;        // 4.1
    std::uint8_t kind = 0;
    bool known = true;
    bool value_kept = true;
  };

  std::size_t size() const noexcept { return entries_.size() - head_; }
  std::uint32_t cost() const noexcept { return cost_; }
  std::uint32_t limit() const noexcept { return limit_; }
  bool whole() const noexcept { return whole_; }
  // 1 = the newest. Null: not there.
  const Entry* find(std::uint32_t index) const noexcept;
  std::string_view name(const Entry& e) const noexcept;
  std::string_view value(const Entry& e) const noexcept;
  // `field.value` may be left out of the table; its size counts all the same.
  void insert(const Field& field);
  void resize(std::uint64_t limit) noexcept;
  // Entries may be in the table that were not seen, or not be in it any more.
  void forget() noexcept;
  // Gives back what it does not use.
  void shrink();
  std::size_t memory() const noexcept {
    return entries_.capacity() * sizeof(Entry) + text_.capacity();
  }

 private:
  void evict(std::uint32_t limit) noexcept;

  std::vector<Entry> entries_;  // the oldest that counts at head_
  std::string text_;            // names and values, one after the other, from text_begin_
  std::size_t head_ = 0;
  std::uint64_t text_begin_ = 0;
  std::uint32_t cost_ = 0;
  std::uint32_t limit_ = kInitialTable;
  bool whole_ = true;
};

class HpackDecoder {
 public:
  explicit HpackDecoder(Classifier classify) noexcept : classify_(classify) {}

  // Calls on_field(const Field&) for each field of a whole header block. After an error the table
  // cannot be relied on: forget().
  template <class OnField>
  HpackError decode(ByteView block, OnField&& on_field) {
    Cursor at{block.data(), block.data() + block.size()};
    int resizes = 0;
    bool fields = false;
    while (at.p < at.end) {
      Field field;
      bool is_field = false;
      const HpackError error = next(at, field, is_field);
      if (error != HpackError::none) return error;
      if (!is_field) {
        if (fields) return HpackError::late_resize;
        if (++resizes > 2) return HpackError::bad_resize;
        continue;
      }
      fields = true;
      on_field(static_cast<const Field&>(field));
      if (insert_) table_.insert(field);
    }
    return HpackError::none;
  }

  void forget() noexcept { table_.forget(); }
  void shrink() { table_.shrink(); }
  const DynamicTable& table() const noexcept { return table_; }

 private:
  struct Cursor {
    const std::uint8_t* p;
    const std::uint8_t* end;
  };
  HpackError next(Cursor& at, Field& field, bool& is_field);
  HpackError indexed(std::uint64_t index, Field& field, bool with_value) noexcept;
  static HpackError integer(Cursor& at, unsigned prefix_bits, std::uint64_t& out) noexcept;
  static HpackError string(Cursor& at, std::string& scratch, std::string_view& out);

  DynamicTable table_;
  Classifier classify_;
  bool insert_ = false;  // the field that next() gave goes into the table
};

}  // namespace olly::http2
