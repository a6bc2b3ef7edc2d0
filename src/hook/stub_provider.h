// A provider that sees nothing: what is left where no other starts. Logs and metrics of later
// issues work without events.
#pragma once

#include <condition_variable>
#include <mutex>

#include "hook/provider.h"

namespace olly {

class StubProvider final : public Provider {
 public:
  std::string_view name() const noexcept override { return "stub"; }
  Result<void> start() override { return {}; }
  bool poll(EventSink& sink, Nanos wait) noexcept override;
  void stop() noexcept override {}
  void wake() noexcept override;

  void skip_until(SocketId, Direction, std::uint64_t) noexcept override {}
  void limit_copy(SocketId, std::uint32_t) noexcept override {}
  void quiet(SocketId) noexcept override {}
  void forget(SocketId) noexcept override {}
  void set_process(std::uint32_t, const ProcessVerdict&) noexcept override {}

 private:
  std::mutex mutex_;
  std::condition_variable woken_;
  bool wake_ = false;
};

}  // namespace olly
