#include "hook/stub_provider.h"

#include <chrono>

namespace olly {

bool StubProvider::poll(EventSink& sink, Nanos wait) noexcept {
  {
    std::unique_lock lock(mutex_);
    woken_.wait_for(lock, std::chrono::nanoseconds(wait), [this] { return wake_; });
    wake_ = false;
  }
  sink.on_advance(monotonic_now());
  return true;
}

void StubProvider::wake() noexcept {
  const std::lock_guard lock(mutex_);
  wake_ = true;
  woken_.notify_all();
}

}  // namespace olly
