#include "traces/attributes.h"

namespace olly {

const Attribute* AttributeList::find(std::string_view key) const noexcept {
  for (const Attribute& a : items_) {
    if (a.key == key) return &a;
  }
  return nullptr;
}

void AttributeList::set(std::string_view key, std::string_view value) {
  for (Attribute& a : items_) {
    if (a.key != key || a.type != AttributeType::string) continue;
    const Text range = add_text(value);
    a.text_offset = range.offset;
    a.text_size = range.size;
    return;
  }
  add(key, value);
}

}  // namespace olly
