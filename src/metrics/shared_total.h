// A counter that several producers add to, each of which knows a total of its own (the kernel's
// drops and those of programs with libolly.so, say). One thread per total.
#pragma once

#include <cstdint>

#include "metrics/registry.h"

namespace olly {

class SharedTotal {
 public:
  void bind(Counter& counter) noexcept { counter_ = &counter; }
  void set(std::uint64_t total) noexcept {
    if (counter_ == nullptr || total <= told_) return;
    counter_->add_shared(total - told_);
    told_ = total;
  }

 private:
  Counter* counter_ = nullptr;
  std::uint64_t told_ = 0;
};

}  // namespace olly
