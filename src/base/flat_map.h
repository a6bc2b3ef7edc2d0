// A hash table for the data plane: one flat array, linear probing, deletion without tombstones.
// Allocates only when it grows; never shrinks. Keys and values are trivially copyable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace olly {

// A good mixer of 64 bits (the finalizer of MurmurHash3).
constexpr std::uint64_t mix64(std::uint64_t x) noexcept {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdULL;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53ULL;
  x ^= x >> 33;
  return x;
}

// Hash: callable, Key -> well-mixed 64 bits.
template <class Key, class Value, class Hash>
class FlatMap {
  static_assert(std::is_trivially_copyable_v<Key> && std::is_trivially_copyable_v<Value>);

 public:
  explicit FlatMap(std::size_t capacity = 64) {
    std::size_t slots = 16;
    while (slots * 3 < capacity * 4) slots *= 2;
    slots_.resize(slots);
  }

  std::size_t size() const noexcept { return size_; }
  std::size_t bytes() const noexcept { return slots_.capacity() * sizeof(Slot); }

  // Null when absent. Valid until the next insert or erase.
  Value* find(const Key& key) noexcept {
    for (std::size_t i = home(key);; i = next(i)) {
      if (!slots_[i].used) return nullptr;
      if (slots_[i].key == key) return &slots_[i].value;
    }
  }

  // What is there already, or a new value-initialised one.
  Value& insert(const Key& key) {
    if ((size_ + 1) * 4 > slots_.size() * 3) grow();
    std::size_t i = home(key);
    for (; slots_[i].used; i = next(i)) {
      if (slots_[i].key == key) return slots_[i].value;
    }
    slots_[i].key = key;
    slots_[i].value = Value{};
    slots_[i].used = true;
    ++size_;
    return slots_[i].value;
  }

  void erase(const Key& key) noexcept {
    std::size_t hole = home(key);
    for (;; hole = next(hole)) {
      if (!slots_[hole].used) return;
      if (slots_[hole].key == key) break;
    }
    // Move back whatever would not be found any more past the hole.
    for (std::size_t i = next(hole); slots_[i].used; i = next(i)) {
      const std::size_t want = home(slots_[i].key);
      const std::size_t mask = slots_.size() - 1;
      if (((i - want) & mask) < ((i - hole) & mask)) continue;
      slots_[hole] = slots_[i];
      hole = i;
    }
    slots_[hole].used = false;
    --size_;
  }

 private:
  struct Slot {
    Key key{};
    Value value{};
    bool used = false;
  };
  std::size_t home(const Key& key) const noexcept {
    return static_cast<std::size_t>(Hash{}(key)) & (slots_.size() - 1);
  }
  std::size_t next(std::size_t i) const noexcept { return (i + 1) & (slots_.size() - 1); }
  void grow() {
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    size_ = 0;
    for (const Slot& slot : old) {
      if (slot.used) insert(slot.key) = slot.value;
    }
  }
  std::vector<Slot> slots_;
  std::size_t size_ = 0;
};

}  // namespace olly
