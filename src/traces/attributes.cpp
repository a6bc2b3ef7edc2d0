#include "traces/attributes.h"

namespace olly {

AttributeList::Text AttributeList::add_text(std::string_view text) {
  const Text range{static_cast<std::uint32_t>(text_.size()),
                   static_cast<std::uint32_t>(text.size())};
  text_.append(text);
  return range;
}

void AttributeList::add(std::string_view key, std::string_view value) {
  const Text range = add_text(value);
  Attribute a;
  a.key = key;
  a.type = AttributeType::string;
  a.text_offset = range.offset;
  a.text_size = range.size;
  items_.push_back(a);
}

void AttributeList::add(std::string_view key, std::int64_t value) {
  Attribute a;
  a.key = key;
  a.type = AttributeType::int64;
  a.int64 = value;
  items_.push_back(a);
}

void AttributeList::add(std::string_view key, double value) {
  Attribute a;
  a.key = key;
  a.type = AttributeType::float64;
  a.float64 = value;
  items_.push_back(a);
}

void AttributeList::add(std::string_view key, bool value) {
  Attribute a;
  a.key = key;
  a.type = AttributeType::boolean;
  a.boolean = value;
  items_.push_back(a);
}

const Attribute* AttributeList::find(std::string_view key) const noexcept {
  for (const Attribute& a : items_) {
    if (a.key == key) return &a;
  }
  return nullptr;
}

}  // namespace olly
