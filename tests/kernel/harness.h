// Runs a test program under a provider and compares its own account of what it did (the truth lines
// of programs/truth.h) with the events that came.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "hook/provider.h"

namespace olly::kernel_test {

enum class Backend : std::uint8_t { sockio, syscall };

struct Options {
  Backend backend = Backend::sockio;
  std::string programs;  // folder of the kt_* programs
};
const Options& options();
void set_options(Options options);

// For programs that move as many small pieces as they can: on a busy host the reader comes late.
inline constexpr std::uint32_t kRoomyRing = 32u << 20;
// A provider of the chosen back end, not started. ring_bytes 0: the default size. observe_unknown
// false: only processes that set_process names, and their descendants, as `olly run` does it.
std::unique_ptr<Provider> make_provider(std::uint32_t ring_bytes = 0, bool observe_unknown = true);
// Records lost so far, by the provider's own counters.
std::uint64_t dropped_records(Provider& provider);
// Entries in the newest kernel map of sockets' state; nothing where that lives in the socket.
std::optional<std::uint64_t> state_entries();

struct Open {
  OpenEvent event;
  std::string path;
  std::size_t order = 0;  // place among all recorded events
};
struct Io {
  IoEvent event;
  std::string payload;
  std::size_t order = 0;
};
struct Close {
  CloseEvent event;
  std::size_t order = 0;
};

// Keeps the events of the processes it is told of, and of their descendants.
class Recorder final : public EventSink {
 public:
  void follow(std::uint32_t pid) { pids_.insert(pid); }

  void on_process(const ProcessEvent& event) noexcept override;
  void on_connect(const ConnectEvent& event) noexcept override;
  void on_open(const OpenEvent& event) noexcept override;
  void on_io(const IoEvent& event) noexcept override;
  void on_close(const CloseEvent& event) noexcept override;
  void on_advance(Nanos now) noexcept override;

  std::vector<Open> opens;
  std::vector<Io> ios;
  std::vector<ConnectEvent> connects;
  std::vector<Close> closes;
  std::vector<ProcessEvent> processes;  // without their texts
  std::vector<OpenEvent> own;           // the agent's own sockets
  Nanos advanced = 0;
  std::size_t disorder = 0;  // events with a time before their predecessor's, or before an advance
  bool keep_payload = true;

 private:
  void stamp(Nanos time) noexcept;

  std::set<std::uint32_t> pids_;
  std::set<SocketId> socks_;
  std::size_t order_ = 0;
  Nanos last_ = 0;
};

// What the program said.
struct TruthSocket {
  std::string family, role, local, remote;
};
struct TruthMove {
  std::string name;
  Direction direction = Direction::recv;
  std::uint64_t position = 0, length = 0;
  std::string flags;
  Nanos from = 0, until = 0;
  std::uint32_t pid = 0, tid = 0;
  std::string bytes;
};
struct TruthWindow {  // opened, connect, none, close
  std::string name;
  std::uint64_t a = 0, b = 0;  // connect: a = error; close: final positions
  Nanos from = 0, until = 0;
  std::uint32_t pid = 0, tid = 0;
};
struct Truth {
  std::map<std::string, TruthSocket> sockets;
  std::vector<TruthMove> moves;
  std::vector<TruthWindow> opened, connects, nones, closes;
  std::vector<std::pair<std::string, std::string>> pairs;
  std::vector<std::string> wire, pauses;
  std::string skip;
};
Truth parse_truth(const std::string& text);

// One run of a program. The provider is polled while it runs and until it has said all.
class Program {
 public:
  // one_cpu: the program stays on one CPU. CPU time is stamped against the scheduler's clock, which
  // differs between CPUs by the interrupt and steal time of each (docs/kernels.md).
  Program(std::string program, std::vector<std::string> arguments, bool one_cpu = true);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  std::uint32_t pid() const { return static_cast<std::uint32_t>(pid_); }
  // Lets the program begin: before that it does not exist but as a fork that waits.
  void begin();
  // Polls until the program has paused `count` times or has ended; false when it ended or hung.
  bool until_pause(Provider* provider, EventSink* sink, std::size_t count = 1);
  void resume();
  // Polls until the program has ended and all its events have come. False on a hang.
  bool finish(Provider& provider, Recorder& recorder);
  int status() const { return status_; }  // of waitpid
  std::string output() const;

 private:
  bool ended();

  pid_t pid_ = -1;
  int output_ = -1, input_ = -1, gate_ = -1;
  int status_ = -1;
  bool reaped_ = false;
};

// Compares everything; gtest failures name what differs. Returns name -> socket id. payloads false:
// the back end counts these calls but cannot copy their bytes.
std::map<std::string, SocketId> compare(const Truth& truth, const Recorder& recorder,
                                        bool payloads = true);
// For each socket: positions without unexplained steps, their sum equal to CLOSE's positions.
void conserve(const Recorder& recorder);

}  // namespace olly::kernel_test
