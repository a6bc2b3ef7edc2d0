// `olly record`: events in, a replay file out. Everything that the replay provider needs to give
// the same events again is written; payloads as hex.
#pragma once

#include <array>
#include <cstdio>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "discovery/process.h"
#include "event/event.h"

namespace olly::replay {

// One thread. A write that fails is remembered: result() tells, later events are dropped.
class Writer final : public EventSink {
 public:
  // `lookup` gives exe, service and runtime of each process at its first event.
  static Result<std::unique_ptr<Writer>> create(const std::string& path, ProcessLookup& lookup,
                                                std::uint32_t only_pid = 0);
  ~Writer() override;

  void on_process(const ProcessEvent& event) noexcept override;
  void on_connect(const ConnectEvent& event) noexcept override;
  void on_open(const OpenEvent& event) noexcept override;
  void on_io(const IoEvent& event) noexcept override;
  void on_close(const CloseEvent& event) noexcept override;
  void on_tls(const TlsEvent& event) noexcept override;
  void on_loss(const LossEvent& event) noexcept override;
  void on_advance(Nanos) noexcept override {}

  // Flushes; the first error, if there was one.
  Result<void> finish();
  std::uint64_t events() const noexcept { return events_; }

 private:
  struct Known {
    std::string name;
    std::array<std::uint64_t, 2> position{};   // of the socket
    std::array<std::uint64_t, 2> plaintext{};  // of the layer that TLS protects
  };
  struct Connecting {
    std::string name;
    std::uint32_t pid = 0;
  };
  Writer(std::FILE* file, std::string path, ProcessLookup& lookup, std::uint32_t only_pid)
      : file_(file), path_(std::move(path)), lookup_(lookup), only_pid_(only_pid) {}
  bool wanted(std::uint32_t pid) const noexcept { return only_pid_ == 0 || pid == only_pid_; }
  void put(const std::string& line) noexcept;
  std::string since(Nanos time);
  void process_line(std::uint32_t pid, std::uint32_t parent, Nanos time);

  std::FILE* file_;
  std::string path_;
  ProcessLookup& lookup_;
  std::uint32_t only_pid_;
  std::unordered_set<std::uint32_t> processes_;
  std::unordered_map<SocketId, Known> conns_;
  std::unordered_map<SocketId, Connecting> connects_;  // called, not yet open
  std::uint64_t next_conn_ = 1;
  std::uint64_t events_ = 0;
  Nanos last_ = 0;
  int error_ = 0;
};

}  // namespace olly::replay
