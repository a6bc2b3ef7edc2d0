#include "protocol/http2/hpack.h"

#include <algorithm>
#include <array>

#include "protocol/http2/huffman.h"

namespace olly::http2 {
namespace {

struct StaticEntry {
  std::string_view name;
  std::string_view value;
};

// Appendix A; index 1 is the first.
constexpr std::array<StaticEntry, 61> kStatic = {{
    {":authority", ""},
    {":method", "GET"},
    {":method", "POST"},
    {":path", "/"},
    {":path", "/index.html"},
    {":scheme", "http"},
    {":scheme", "https"},
    {":status", "200"},
    {":status", "204"},
    {":status", "206"},
    {":status", "304"},
    {":status", "400"},
    {":status", "404"},
    {":status", "500"},
    {"accept-charset", ""},
    {"accept-encoding", "gzip, deflate"},
    {"accept-language", ""},
    {"accept-ranges", ""},
    {"accept", ""},
    {"access-control-allow-origin", ""},
    {"age", ""},
    {"allow", ""},
    {"authorization", ""},
    {"cache-control", ""},
    {"content-disposition", ""},
    {"content-encoding", ""},
    {"content-language", ""},
    {"content-length", ""},
    {"content-location", ""},
    {"content-range", ""},
    {"content-type", ""},
    {"cookie", ""},
    {"date", ""},
    {"etag", ""},
    {"expect", ""},
    {"expires", ""},
    {"from", ""},
    {"host", ""},
    {"if-match", ""},
    {"if-modified-since", ""},
    {"if-none-match", ""},
    {"if-range", ""},
    {"if-unmodified-since", ""},
    {"last-modified", ""},
    {"link", ""},
    {"location", ""},
    {"max-forwards", ""},
    {"proxy-authenticate", ""},
    {"proxy-authorization", ""},
    {"range", ""},
    {"referer", ""},
    {"refresh", ""},
    {"retry-after", ""},
    {"server", ""},
    {"set-cookie", ""},
    {"strict-transport-security", ""},
    {"transfer-encoding", ""},
    {"user-agent", ""},
    {"vary", ""},
    {"via", ""},
    {"www-authenticate", ""},
}};

constexpr std::uint32_t kOverhead = 32;  // 4.1

}  // namespace

std::string_view to_string(HpackError error) noexcept {
  switch (error) {
    case HpackError::none:
      return "none";
    case HpackError::truncated:
      return "truncated";
    case HpackError::bad_integer:
      return "bad_integer";
    case HpackError::bad_index:
      return "bad_index";
    case HpackError::bad_huffman:
      return "bad_huffman";
    case HpackError::late_resize:
      return "late_resize";
    case HpackError::bad_resize:
      return "bad_resize";
  }
  return "";
}

const DynamicTable::Entry* DynamicTable::find(std::uint32_t index) const noexcept {
  if (index == 0 || index > size()) return nullptr;
  return &entries_[entries_.size() - index];
}

std::string_view DynamicTable::name(const Entry& e) const noexcept {
  return std::string_view(text_).substr(e.text - text_begin_, e.name_size);
}

std::string_view DynamicTable::value(const Entry& e) const noexcept {
  return std::string_view(text_).substr(e.text - text_begin_ + e.name_size, e.value_size);
}

void DynamicTable::evict(std::uint32_t limit) noexcept {
  while (cost_ > limit) cost_ -= entries_[head_++].cost;
  const std::uint64_t live =
      head_ == entries_.size() ? text_begin_ + text_.size() : entries_[head_].text;
  // Both arrays move up only when more than half of them is past: each byte once, in sum.
  const std::size_t past = live - text_begin_;
  if (past * 2 > text_.size()) {
    text_.erase(0, past);
    text_begin_ = live;
  }
  if (head_ * 2 > entries_.size()) {
    entries_.erase(entries_.begin(), entries_.begin() + static_cast<std::ptrdiff_t>(head_));
    head_ = 0;
  }
}

void DynamicTable::insert(const Field& f) {
  const std::uint64_t cost = std::uint64_t{kOverhead} + f.name.size() + f.value.size();
  if (cost > limit_) {  // 4.4: it empties the table, and is not in it
    evict(0);
    return;
  }
  Entry e;
  e.cost = static_cast<std::uint32_t>(cost);
  e.kind = f.kind;
  e.known = f.known;
  e.value_kept = f.value_kept && f.kind != 0;
  e.name_size = static_cast<std::uint32_t>(f.name.size());
  e.value_size = e.value_kept ? static_cast<std::uint32_t>(f.value.size()) : 0;
  // The name may be a view of this table's own text: appended before anything moves.
  const std::uint64_t begin = text_begin_ + text_.size();
  text_.append(f.name);
  if (e.value_kept) text_.append(f.value);
  e.text = begin;
  entries_.push_back(e);
  cost_ += e.cost;
  evict(limit_);
}

void DynamicTable::resize(std::uint64_t limit) noexcept {
  if (limit > kMaxTable) whole_ = false;  // the encoder will refer to more than is kept here
  limit_ = static_cast<std::uint32_t>(std::min<std::uint64_t>(limit, kMaxTable));
  evict(limit_);
}

void DynamicTable::forget() noexcept {
  whole_ = false;
  entries_.clear();
  text_.clear();
  head_ = 0;
  cost_ = 0;
  limit_ = kMaxTable;  // not known: keep what may be referred to
}

void DynamicTable::shrink() {
  entries_.erase(entries_.begin(), entries_.begin() + static_cast<std::ptrdiff_t>(head_));
  head_ = 0;
  const std::uint64_t live = entries_.empty() ? text_begin_ + text_.size() : entries_[0].text;
  text_.erase(0, live - text_begin_);
  text_begin_ = live;
  entries_.shrink_to_fit();
  text_.shrink_to_fit();
}

// Section 5.1. `at` is at the octet whose low bits are the prefix.
HpackError HpackDecoder::integer(Cursor& at, unsigned prefix_bits, std::uint64_t& out) noexcept {
  constexpr std::uint64_t kMax = 0xffffffff;
  if (at.p == at.end) return HpackError::truncated;
  const std::uint8_t mask = static_cast<std::uint8_t>((1u << prefix_bits) - 1);
  out = *at.p++ & mask;
  if (out < mask) return HpackError::none;
  for (unsigned shift = 0;; shift += 7) {
    if (at.p == at.end) return HpackError::truncated;
    const std::uint8_t octet = *at.p++;
    if (shift > 28) return HpackError::bad_integer;
    out += static_cast<std::uint64_t>(octet & 0x7f) << shift;
    if (out > kMax) return HpackError::bad_integer;
    if ((octet & 0x80) == 0) return HpackError::none;
  }
}

// Section 5.2. A view into the block, or into `scratch`.
HpackError HpackDecoder::string(Cursor& at, std::string& scratch, std::string_view& out) {
  if (at.p == at.end) return HpackError::truncated;
  const bool huffman = (*at.p & 0x80) != 0;
  std::uint64_t length = 0;
  const HpackError error = integer(at, 7, length);
  if (error != HpackError::none) return error;
  if (length > static_cast<std::uint64_t>(at.end - at.p)) return HpackError::truncated;
  const ByteView bytes(at.p, static_cast<std::size_t>(length));
  at.p += length;
  if (!huffman) {
    out = as_text(bytes);
    return HpackError::none;
  }
  scratch.clear();
  if (!huffman_decode(bytes, scratch)) return HpackError::bad_huffman;
  out = scratch;
  return HpackError::none;
}

// Section 2.3.3.
HpackError HpackDecoder::indexed(std::uint64_t index, Field& field, bool with_value) noexcept {
  if (index == 0) return HpackError::bad_index;
  if (index <= kStatic.size()) {
    const StaticEntry& e = kStatic[index - 1];
    field.name = e.name;
    field.kind = classify_(e.name);
    if (with_value) field.value = e.value;
    return HpackError::none;
  }
  index -= kStatic.size();
  const DynamicTable::Entry* e = table_.find(static_cast<std::uint32_t>(index));
  if (e == nullptr) {
    if (table_.whole()) return HpackError::bad_index;
    field.known = field.value_kept = false;
    return HpackError::none;
  }
  field.known = e->known;
  field.name = table_.name(*e);
  field.kind = e->kind;
  if (with_value) {
    field.value = table_.value(*e);
    field.value_kept = e->value_kept;
  }
  return HpackError::none;
}

// Section 6.
HpackError HpackDecoder::next(Cursor& at, Field& field, bool& is_field) {
  static thread_local std::string names;
  static thread_local std::string values;
  const std::uint8_t first = *at.p;
  std::uint64_t index = 0;
  insert_ = false;
  is_field = true;
  if ((first & 0x80) != 0) {  // 6.1
    const HpackError error = integer(at, 7, index);
    return error != HpackError::none ? error : indexed(index, field, true);
  }
  if ((first & 0xe0) == 0x20) {  // 6.3
    is_field = false;
    const HpackError error = integer(at, 5, index);
    if (error == HpackError::none) table_.resize(index);
    return error;
  }
  insert_ = (first & 0x40) != 0;                          // 6.2.1
  field.never_indexed = !insert_ && (first & 0x10) != 0;  // 6.2.3
  HpackError error = integer(at, insert_ ? 6 : 4, index);
  if (error != HpackError::none) return error;
  if (index != 0) {
    error = indexed(index, field, false);
  } else {
    error = string(at, names, field.name);
    field.kind = classify_(field.name);
  }
  if (error != HpackError::none) return error;
  // An unknown name's value says nothing.
  field.value_kept = field.known;
  return string(at, values, field.value);
}

}  // namespace olly::http2
