// A recording as a Provider: the same events, in the same order, with the same stamps, every time.
// The beginning of the recording is kStart on the monotonic clock and kStartUnix in Unix time
// (2023-11-14T22:13:20Z), so that two runs give the same bytes.
#pragma once

#include <array>
#include <set>
#include <unordered_map>

#include "hook/provider.h"
#include "hook/replay/recording.h"

namespace olly::replay {

constexpr Nanos kStart = kSecond;
constexpr Nanos kStartUnix = 1'700'000'000 * kSecond;

struct ProviderOptions {
  // Each payload is handed on as several calls of these sizes in turn, the last one repeated; empty
  // = as recorded. {1}: every byte on its own.
  std::vector<std::uint32_t> split;
  // Indices of Recording::steps whose call is lost: its bytes move, no event tells of it.
  std::set<std::size_t> lost;
  // Indices of steps whose call is told of, but none of its bytes were captured.
  std::set<std::size_t> uncaptured;
};

class ReplayProvider final : public Provider, public ProcessLookup {
 public:
  // The recording must outlive the provider.
  ReplayProvider(const Recording& recording, ProviderOptions options);

  std::string_view name() const noexcept override { return "replay"; }
  Result<void> start() override { return {}; }
  bool poll(EventSink& sink, Nanos wait) noexcept override;
  void stop() noexcept override { next_ = recording_.steps.size(); }
  void wake() noexcept override {}

  // Hints are for live producers: a recording holds what it holds.
  void skip_until(SocketId, Direction, std::uint64_t) noexcept override {}
  void limit_copy(SocketId, std::uint32_t) noexcept override {}
  void quiet(SocketId) noexcept override {}
  void forget(SocketId) noexcept override {}
  void set_process(std::uint32_t, const ProcessVerdict&) noexcept override {}

  ProcessPtr process(std::uint32_t pid) noexcept override;

  // Time of the last event handed on.
  Nanos now() const noexcept { return now_; }
  // 1-based index of Recording::conns.
  static SocketId socket_of(std::size_t conn) noexcept { return conn + 1; }

 private:
  struct State {
    std::array<std::uint64_t, 2> position{};   // of the socket
    std::array<std::uint64_t, 2> plaintext{};  // of the layer that TLS protects
    bool connected = false;                    // connect() has been told
  };
  void play(const Step& step, bool lost, EventSink& sink) noexcept;
  void open(const Step& step, EventSink& sink) noexcept;
  void connect(const Step& step, EventSink& sink) noexcept;
  std::uint64_t& position_of(const Step& step) noexcept;
  void io(const Step& step, bool captured, EventSink& sink) noexcept;

  const Recording& recording_;
  ProviderOptions options_;
  std::vector<State> states_;  // by conn
  std::unordered_map<std::uint32_t, ProcessPtr> processes_;
  std::size_t next_ = 0;
  Nanos now_ = kStart;
};

}  // namespace olly::replay
