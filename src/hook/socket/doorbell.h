// Sleeping until a program writes into its ring. A program keeps no descriptor of the agent's: it
// rings by a futex in its region. One thread waits for the futexes of all programs (futex_waitv,
// Linux 5.16 on, at most 127 of them) and hands the ring on as an eventfd.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

namespace olly::preload {

class Doorbell {
 public:
  // `wake_fd` gets 1 written to it when somebody rings. It must outlive this.
  explicit Doorbell(int wake_fd) : wake_fd_(wake_fd) {}
  ~Doorbell() { stop(); }

  // False: too many words, or a kernel without futex_waitv: the caller must look by itself.
  // Each word is 1 while nobody has rung. They must stay mapped until disarm() has returned.
  bool arm(std::span<std::uint32_t* const> words);
  void disarm() noexcept;
  void stop() noexcept;

 private:
  void run(const std::stop_token& stop);

  int wake_fd_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::vector<std::uint32_t*> words_;
  bool armed_ = false;
  std::atomic<bool> supported_{true};
  std::uint32_t cancel_ = 0;  // a futex: 1 = go on waiting
  std::jthread thread_;
};

}  // namespace olly::preload
