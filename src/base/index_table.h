// A hash table of elements that live elsewhere and are known by a number: four bytes a slot. Linear
// probing, deletion without tombstones. Allocates only when it grows; never shrinks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace olly {

// Hash: callable, Key -> well-mixed 64 bits. The methods are given `key_of`, callable with an
// element's number, -> its Key.
template <class Key, class Hash>
class IndexTable {
 public:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

  IndexTable() : slots_(64, kNone) {}

  std::size_t size() const noexcept { return size_; }
  std::size_t bytes() const noexcept { return slots_.capacity() * sizeof(std::uint32_t); }

  // kNone when absent.
  template <class KeyOf>
  std::uint32_t find(const Key& key, KeyOf&& key_of) const noexcept {
    std::size_t i = home(key);
    while (slots_[i] != kNone && !(key_of(slots_[i]) == key)) i = next(i);
    return slots_[i];
  }

  // The key must be absent, and be what key_of says of the element.
  template <class KeyOf>
  void insert(std::uint32_t element, KeyOf&& key_of) {
    if ((size_ + 1) * 4 > slots_.size() * 3) {
      std::vector<std::uint32_t> old(slots_.size() * 2, kNone);
      old.swap(slots_);
      for (const std::uint32_t each : old) {
        if (each != kNone) place(each, key_of(each));
      }
    }
    place(element, key_of(element));
    ++size_;
  }

  // Nothing happens when it is absent.
  template <class KeyOf>
  void erase(const Key& key, KeyOf&& key_of) noexcept {
    std::size_t hole = home(key);
    for (;; hole = next(hole)) {
      if (slots_[hole] == kNone) return;
      if (key_of(slots_[hole]) == key) break;
    }
    // Move back whatever would not be found any more past the hole.
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t i = next(hole); slots_[i] != kNone; i = next(i)) {
      const std::size_t want = home(key_of(slots_[i]));
      if (((i - want) & mask) < ((i - hole) & mask)) continue;
      slots_[hole] = slots_[i];
      hole = i;
    }
    slots_[hole] = kNone;
    --size_;
  }

 private:
  std::size_t home(const Key& key) const noexcept {
    return static_cast<std::size_t>(Hash{}(key)) & (slots_.size() - 1);
  }
  std::size_t next(std::size_t i) const noexcept { return (i + 1) & (slots_.size() - 1); }
  void place(std::uint32_t element, const Key& key) noexcept {
    std::size_t i = home(key);
    while (slots_[i] != kNone) i = next(i);
    slots_[i] = element;
  }

  std::vector<std::uint32_t> slots_;
  std::size_t size_ = 0;
};

}  // namespace olly
