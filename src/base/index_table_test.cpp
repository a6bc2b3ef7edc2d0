#include "base/index_table.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <unordered_map>
#include <vector>

namespace olly {
namespace {

// Many keys with the same home, so that chains meet and wrap around.
struct PoorHash {
  std::uint64_t operator()(std::uint64_t key) const noexcept { return key % 7 * 9; }
};

TEST(IndexTable, SaysTheSameAsAMap) {
  std::vector<std::uint64_t> keys(3000);
  for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = i * 3 + 1;
  const auto key_of = [&](std::uint32_t i) { return keys[i]; };
  IndexTable<std::uint64_t, PoorHash> table;
  std::unordered_map<std::uint64_t, std::uint32_t> truth;
  std::mt19937 random(7);  // NOLINT(*-msc51-cpp): the same every time
  for (int step = 0; step < 2000; ++step) {
    const std::uint32_t element = random() % 300;
    if (truth.contains(keys[element])) {
      table.erase(keys[element], key_of);
      truth.erase(keys[element]);
    } else {
      table.insert(element, key_of);
      truth[keys[element]] = element;
    }
    ASSERT_EQ(table.size(), truth.size());
    for (std::uint32_t i = 0; i < 300; ++i) {
      const auto found = truth.find(keys[i]);
      const std::uint32_t want = found == truth.end() ? table.kNone : found->second;
      ASSERT_EQ(table.find(keys[i], key_of), want);
    }
  }
  table.erase(2, key_of);  // absent
  EXPECT_EQ(table.size(), truth.size());
}

}  // namespace
}  // namespace olly
