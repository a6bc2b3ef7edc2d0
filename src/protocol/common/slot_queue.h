// The unanswered requests of one connection, for protocols that answer in order.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace olly {

// First in, first out, keeps its memory; almost always holds one.
template <class Slot>
class SlotQueue {
 public:
  bool empty() const noexcept { return head_ == slots_.size(); }
  std::size_t size() const noexcept { return slots_.size() - head_; }
  Slot& front() noexcept { return slots_[head_]; }
  Slot& back() noexcept { return slots_.back(); }
  const Slot& front() const noexcept { return slots_[head_]; }
  const Slot& back() const noexcept { return slots_.back(); }
  Slot& at(std::size_t i) noexcept { return slots_[head_ + i]; }
  Slot& push() {
    if (head_ > 64 && head_ * 2 > slots_.size()) {
      slots_.erase(slots_.begin(), slots_.begin() + static_cast<std::ptrdiff_t>(head_));
      head_ = 0;
    }
    return slots_.emplace_back();
  }
  void pop() noexcept {
    if (++head_ == slots_.size()) slots_.clear(), head_ = 0;
  }
  void pop_back() noexcept {
    slots_.pop_back();
    if (head_ == slots_.size()) slots_.clear(), head_ = 0;
  }
  std::size_t bytes() const noexcept { return slots_.capacity() * sizeof(Slot); }

 private:
  std::vector<Slot> slots_;
  std::size_t head_ = 0;
};

// Queues of idle connections' parsers, kept for the next that needs one. A Protocol has one.
template <class Slot>
class QueuePool {
 public:
  std::unique_ptr<SlotQueue<Slot>> take() {
    if (free_.empty()) return std::make_unique<SlotQueue<Slot>>();
    std::unique_ptr<SlotQueue<Slot>> q = std::move(free_.back());
    free_.pop_back();
    return q;
  }
  void give(std::unique_ptr<SlotQueue<Slot>> queue) {
    if (free_.size() < kKept && queue->bytes() <= kMaxKept) free_.push_back(std::move(queue));
  }

 private:
  static constexpr std::size_t kKept = 256;
  static constexpr std::size_t kMaxKept = 16 * 1024;
  std::vector<std::unique_ptr<SlotQueue<Slot>>> free_;
};

}  // namespace olly
