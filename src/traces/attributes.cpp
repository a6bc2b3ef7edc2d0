#include "traces/attributes.h"

namespace olly {

const Attribute* AttributeList::find(std::string_view key) const noexcept {
  for (const Attribute& a : items_) {
    if (a.key == key) return &a;
  }
  return nullptr;
}

}  // namespace olly
