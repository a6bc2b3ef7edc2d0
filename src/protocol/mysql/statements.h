// The prepared statements of one connection: what an id stands for. Bounded; the one that was used
// longest ago gives way, and its executions then have no text.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace olly::mysql {

inline constexpr std::size_t kMaxStatements = 512;
inline constexpr std::size_t kMaxStatementBytes = 128 * 1024;

// Normal form and summary, as protocol/sql/sql.h makes them.
struct Statement {
  std::string text;
  std::string summary;
  std::size_t bytes() const noexcept { return sizeof *this + text.capacity() + summary.capacity(); }
};
using StatementPtr = std::shared_ptr<const Statement>;

// Clients prepare the same statements again and again: one copy of each serves all connections, as
// long as it is among the latest.
class StatementCache {
 public:
  StatementPtr get(const std::string& text, const std::string& summary) {
    StatementPtr& place = latest_[std::hash<std::string>{}(text) % latest_.size()];
    if (!place || place->text != text || place->summary != summary)
      place = std::make_shared<const Statement>(Statement{text, summary});
    return place;
  }

 private:
  std::array<StatementPtr, 256> latest_;
};

class Statements {
 public:
  // Null: not known.
  StatementPtr find(std::uint32_t id) noexcept {
    const auto at = place(id);
    if (at == entries_.end() || at->id != id) return nullptr;
    at->used = ++clock_;
    return at->statement;
  }
  void put(std::uint32_t id, StatementPtr statement) {
    erase(id);
    const std::size_t size = statement->bytes();
    if (size > kMaxStatementBytes) return;
    while (entries_.size() >= kMaxStatements || bytes_ + size > kMaxStatementBytes) {
      remove(std::min_element(entries_.begin(), entries_.end(),
                              [](const Entry& a, const Entry& b) { return a.used < b.used; }));
    }
    bytes_ += size;
    entries_.insert(place(id), Entry{id, ++clock_, std::move(statement)});
  }
  void erase(std::uint32_t id) noexcept {
    const auto at = place(id);
    if (at != entries_.end() && at->id == id) remove(at);
  }
  void clear() noexcept {
    entries_.clear();
    bytes_ = 0;
  }
  std::size_t size() const noexcept { return entries_.size(); }
  std::size_t memory() const noexcept { return bytes_ + entries_.capacity() * sizeof(Entry); }

 private:
  struct Entry {
    std::uint32_t id = 0;
    std::uint64_t used = 0;
    StatementPtr statement;
  };
  using Place = std::vector<Entry>::iterator;

  Place place(std::uint32_t id) noexcept {
    return std::lower_bound(entries_.begin(), entries_.end(), id,
                            [](const Entry& e, std::uint32_t i) { return e.id < i; });
  }
  void remove(Place at) noexcept {
    bytes_ -= at->statement->bytes();
    entries_.erase(at);
  }

  std::vector<Entry> entries_;  // by id; servers count upwards
  std::size_t bytes_ = 0;
  std::uint64_t clock_ = 0;
};

}  // namespace olly::mysql
