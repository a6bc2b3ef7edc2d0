#include "protocol/postgresql/statements.h"

#include <algorithm>

#include "base/flat_map.h"

namespace olly::postgresql {
namespace {

std::uint64_t key_of(std::string_view name) noexcept {
  std::uint64_t h = 0xcbf29ce484222325ULL;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return mix64(h ^ name.size());
}

}  // namespace

void NameTable::remove(std::size_t i) noexcept {
  if (entries_[i].statement) bytes_ -= entries_[i].statement->bytes();
  if (i + 1 != entries_.size()) entries_[i] = std::move(entries_.back());
  entries_.pop_back();
}

std::uint32_t NameTable::put(std::string_view name, StatementPtr statement) {
  erase(name);
  const std::size_t more = statement ? statement->bytes() : 0;
  while (!entries_.empty() && (entries_.size() >= most_ || bytes_ + more > most_bytes_)) {
    const auto oldest =
        std::min_element(entries_.begin(), entries_.end(),
                         [](const Entry& a, const Entry& b) { return a.used < b.used; });
    remove(static_cast<std::size_t>(oldest - entries_.begin()));
  }
  bytes_ += more;
  entries_.push_back({key_of(name), ++numbers_, ++clock_, std::move(statement)});
  return numbers_;
}

StatementPtr NameTable::find(std::string_view name) noexcept {
  const std::uint64_t key = key_of(name);
  for (Entry& e : entries_) {
    if (e.key != key) continue;
    e.used = ++clock_;
    return e.statement;
  }
  return nullptr;
}

void NameTable::erase(std::string_view name) noexcept {
  const std::uint64_t key = key_of(name);
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i].key == key) return remove(i);
  }
}

void NameTable::erase(std::uint32_t number) noexcept {
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i].number == number) return remove(i);
  }
}

void NameTable::clear() noexcept {
  entries_.clear();
  bytes_ = 0;
}

}  // namespace olly::postgresql
