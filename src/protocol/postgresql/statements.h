// What is known of a connection's prepared statements or portals, by name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "protocol/sql/sql.h"

namespace olly::postgresql {

struct Statement {
  sql::Query query;
  std::size_t bytes() const noexcept {
    return sizeof *this + query.text.capacity() + query.summary.capacity();
  }
};
using StatementPtr = std::shared_ptr<Statement>;

// Bounded in number and in bytes: what was not used for longest is forgotten, and whoever refers to
// it has no text. Names are kept as hashes of 64 bits.
class NameTable {
 public:
  NameTable(std::size_t most, std::size_t most_bytes) : most_(most), most_bytes_(most_bytes) {}

  // Returns a number that tells this entry from later ones of the same name.
  std::uint32_t put(std::string_view name, StatementPtr statement);
  StatementPtr find(std::string_view name) noexcept;
  void erase(std::string_view name) noexcept;
  // If it is still the entry that put() made.
  void erase(std::uint32_t number) noexcept;
  void clear() noexcept;
  bool empty() const noexcept { return entries_.empty(); }
  std::size_t bytes() const noexcept { return bytes_ + entries_.capacity() * sizeof(Entry); }

 private:
  struct Entry {
    std::uint64_t key = 0;
    std::uint32_t number = 0;
    std::uint32_t used = 0;
    StatementPtr statement;
  };
  void remove(std::size_t i) noexcept;

  std::vector<Entry> entries_;
  std::size_t most_;
  std::size_t most_bytes_;
  std::size_t bytes_ = 0;
  std::uint32_t clock_ = 0;
  std::uint32_t numbers_ = 0;
};

}  // namespace olly::postgresql
