// A doubly linked list whose links live in the elements: joining and leaving cost no allocation and
// no search. An element is in at most one list per Hook.
#pragma once

#include <cstddef>

namespace olly {

template <class T>
struct Hook {
  T* prev = nullptr;
  T* next = nullptr;
};

template <class T, Hook<T> T::*Member>
class IntrusiveList {
 public:
  bool empty() const noexcept { return head_ == nullptr; }
  std::size_t size() const noexcept { return size_; }
  T* front() const noexcept { return head_; }
  T* back() const noexcept { return tail_; }
  static T* next(const T& item) noexcept { return (item.*Member).next; }
  static T* prev(const T& item) noexcept { return (item.*Member).prev; }

  void push_back(T& item) noexcept {
    Hook<T>& hook = item.*Member;
    hook = {tail_, nullptr};
    (tail_ ? (tail_->*Member).next : head_) = &item;
    tail_ = &item;
    ++size_;
  }

  // The element must be in this list.
  void remove(T& item) noexcept {
    Hook<T>& hook = item.*Member;
    (hook.prev ? (hook.prev->*Member).next : head_) = hook.next;
    (hook.next ? (hook.next->*Member).prev : tail_) = hook.prev;
    hook = {};
    --size_;
  }

 private:
  T* head_ = nullptr;
  T* tail_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace olly
