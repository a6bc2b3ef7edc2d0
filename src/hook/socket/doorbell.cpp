#include "hook/socket/doorbell.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>

namespace olly::preload {
namespace {

constexpr std::size_t kMost = 128;  // FUTEX_WAITV_MAX
#ifndef SYS_futex_waitv
constexpr long SYS_futex_waitv = 449;  // NOLINT: the name is the kernel's
#endif
// struct futex_waitv, which headers before Linux 5.16 do not have.
struct Waiter {
  std::uint64_t value;
  std::uint64_t address;
  std::uint32_t flags;
  std::uint32_t reserved;
};
constexpr std::uint32_t kFutex32 = 2;

Waiter waiter(const std::uint32_t* word) noexcept {
  return {1, reinterpret_cast<std::uint64_t>(word), kFutex32, 0};
}

}  // namespace

bool Doorbell::arm(std::span<std::uint32_t* const> words) {
  if (!supported_.load(std::memory_order_relaxed) || words.size() >= kMost) return false;
  {
    const std::lock_guard lock(mutex_);
    words_.assign(words.begin(), words.end());
    armed_ = true;
    __atomic_store_n(&cancel_, 1, __ATOMIC_SEQ_CST);
  }
  if (!thread_.joinable()) thread_ = std::jthread([this](const std::stop_token& s) { run(s); });
  changed_.notify_all();
  return true;
}

void Doorbell::disarm() noexcept {
  std::unique_lock lock(mutex_);
  while (armed_) {
    __atomic_store_n(&cancel_, 0, __ATOMIC_SEQ_CST);
    ::syscall(SYS_futex, &cancel_, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
    changed_.wait_for(lock, std::chrono::milliseconds(5));
  }
}

void Doorbell::stop() noexcept {
  if (!thread_.joinable()) return;
  thread_.request_stop();
  disarm();
  thread_.join();
}

void Doorbell::run(const std::stop_token& stop) {
  std::array<Waiter, kMost> waiters;
  for (;;) {
    std::size_t count = 0;
    {
      std::unique_lock lock(mutex_);
      if (!changed_.wait(lock, stop, [this] { return armed_; })) return;
      waiters[count++] = waiter(&cancel_);
      for (const std::uint32_t* word : words_) waiters[count++] = waiter(word);
    }
    const long rung = ::syscall(SYS_futex_waitv, waiters.data(), count, 0, nullptr, 0);
    if (rung < 0 && errno == ENOSYS) supported_.store(false, std::memory_order_relaxed);
    const std::uint64_t one = 1;
    if (__atomic_load_n(&cancel_, __ATOMIC_SEQ_CST) != 0) {
      [[maybe_unused]] const ssize_t n = ::write(wake_fd_, &one, sizeof one);
    }
    const std::lock_guard lock(mutex_);
    armed_ = false;
    changed_.notify_all();
  }
}

}  // namespace olly::preload
