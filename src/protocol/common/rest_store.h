// What parsers of idle connections leave behind that 32 bits do not hold (ProtocolParser::rest). A
// Protocol has one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace olly {

// `State` can be moved, and says in bytes() what it holds beside itself.
template <class State>
class RestStore {
 public:
  std::uint32_t put(State&& state) {
    if (free_.empty()) {
      free_.push_back(static_cast<std::uint32_t>(states_.size()));
      states_.emplace_back();
    }
    const std::uint32_t number = free_.back();
    free_.pop_back();
    bytes_ += size(state);
    states_[number] = std::make_unique<State>(std::move(state));
    return number;
  }
  State take(std::uint32_t number) noexcept {
    State state = std::move(*states_[number]);
    bytes_ -= size(state);
    states_[number].reset();
    free_.push_back(number);
    return state;
  }
  std::size_t bytes() const noexcept {
    return bytes_ + states_.capacity() * sizeof states_[0] + free_.capacity() * sizeof free_[0];
  }

 private:
  static constexpr std::size_t kHeap = 16;  // what an allocation costs besides
  static std::size_t size(const State& state) noexcept {
    return sizeof(State) + kHeap + state.bytes();
  }

  std::vector<std::unique_ptr<State>> states_;
  std::vector<std::uint32_t> free_;
  std::size_t bytes_ = 0;
};

}  // namespace olly
