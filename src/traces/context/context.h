// The vocabulary of the context engine: who can own a call, and how it is known.
// Ids are reused by the kernel and by runtimes, so everything here is scoped by time.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/flat_map.h"
#include "base/intrusive_list.h"
#include "base/time.h"
#include "discovery/process.h"
#include "event/event.h"
#include "protocol/exchange.h"

namespace olly::context {

enum class EcKind : std::uint8_t { thread, goroutine };

// An execution context: what runs one request's code at a time, if anything does.
struct EcKey {
  std::uint64_t id = 0;  // thread id or goroutine id
  std::uint32_t pid = 0;
  EcKind kind = EcKind::thread;
  bool operator==(const EcKey&) const = default;
};
struct EcKeyHash {
  std::uint64_t operator()(const EcKey& k) const noexcept {
    return mix64(k.id * 0x9e3779b97f4a7c15ULL + k.pid * 2ULL + static_cast<std::uint64_t>(k.kind));
  }
};

// How an owner was found. The names are the values of olly.link.method.
enum class Method : std::uint8_t { none, thread, coroutine, loop };
constexpr std::string_view method_name(Method m) noexcept {
  constexpr std::string_view kNames[] = {"none", "thread", "coroutine", "loop"};
  return kNames[static_cast<std::size_t>(m)];
}

// Why a call has no owner. The names are the values of olly_unlinked_total's label `cause`.
enum class Cause : std::uint8_t {
  none,          // it has one, or nobody could have: no request was open in the process
  event_loop,    // its context, or connection, served several requests at once
  nonblocking,   // its context reads without blocking: it may be an event loop
  timer_loop,    // a program whose threads say nothing (Node)
  no_goroutine,  // Go, but the goroutine is not known
  handed_over,   // no context that wrote a response made it
  outlived,      // it ended after its owner had answered
  no_window,     // a socket loop that was not serving any request just then
  no_connect,    // a socket loop's first bytes on a connection whose connect() was not seen
  lost_events,   // events of its time are missing: what decides may be among them
  ambiguous,     // more than one reading of what was seen
  late,          // tracing.link_wait ran out first
  evicted,       // the memory budget ran out first
  shutdown,      // the agent ended first
  injected,      // the trace that was put into its request is not its owner's
  no_call,       // a request from an observed socket on which no such call was seen
};
constexpr std::size_t kCauses = static_cast<std::size_t>(Cause::no_call) + 1;
constexpr std::string_view cause_name(Cause c) noexcept {
  constexpr std::string_view kNames[] = {"none",         "event_loop",  "nonblocking", "timer_loop",
                                         "no_goroutine", "handed_over", "outlived",    "no_window",
                                         "no_connect",   "lost_events", "ambiguous",   "late",
                                         "evicted",      "shutdown",    "injected",    "no_call"};
  static_assert(sizeof(kNames) / sizeof(kNames[0]) == kCauses);
  return kNames[static_cast<std::size_t>(c)];
}

struct Served;
struct Ec;
struct ProcessState;
struct SocketState;

// A request that this process made. Lives in the caller's pool.
struct Call {
  enum class State : std::uint8_t {
    undecided,  // nothing known yet
    claimed,    // `owner` is it, if the call ends before the owner answers
    owned,      // final
    unowned,    // final; `cause` says why
  };
  void* user = nullptr;
  SocketId sock = 0;
  IoMark begun;  // first byte written
  State state = State::undecided;
  Method method = Method::none;
  Cause cause = Cause::none;
  bool ended = false;
  IoMark response_last;         // valid once ended; time 0 = there was no response
  bool read_elsewhere = false;  // another context than the sender's read the response
  bool may_not_sleep = false;   // the response was read by a call that could not have slept
  bool multiplexed = false;     // its connection may carry calls of others (Exchange has more)
  bool overlapped = false;      // and did, in its time
  std::uint32_t pid = 0;
  Runtime runtime = Runtime::unknown;
  Served* owner = nullptr;     // claimed or owned; null once the caller has detached it
  Nanos owner_answered = 0;    // 0 = not yet
  Ec* ec = nullptr;            // whose `calls` holds it while undecided
  std::uint64_t switches = 0;  // of its thread, when it began
  ProcessState* process = nullptr;
  Hook<Call> in_ec, in_process, in_owner;
};

// A request that this process serves. Lives in the caller's pool; `generation` tells whether the
// memory is still the same request's.
struct Served {
  void* user = nullptr;
  std::uint64_t generation = 0;
  SocketId sock = 0;
  IoMark first;  // first byte read
  IoMark read;   // the read that completed the head
  std::uint32_t pid = 0;
  Runtime runtime = Runtime::unknown;
  Ec* reader = nullptr;
  EcKey writer;       // of the response so far; id 0 = nobody yet
  bool open = false;  // read and not yet answered
  bool several_writers = false;
  bool writer_shared = false;  // a writer had another request open
  bool reader_shared = false;  // its reader had another request open in the same time
  bool may_not_sleep = false;  // read by a call that could not have slept
  bool overlapped = false;     // other requests of its multiplexed connection were open
  ProcessState* process = nullptr;
  SocketState* socket = nullptr;  // socket loops only
  // A socket loop's own segments: what its thread used from one of its events to its next write.
  Nanos segment_cpu = 0, segment_runq = 0, segment_wall = 0;
  bool segments_known = true;
  std::uint32_t segments = 0;
  Hook<Served> in_reader, in_process, in_socket;
  IntrusiveList<Call, &Call::in_owner> claims;  // the caller detaches each (owner = null, remove)
};

// A Served that may be gone.
struct ServedHandle {
  Served* served = nullptr;
  std::uint64_t generation = 0;
  static ServedHandle of(Served* s) noexcept { return {s, s ? s->generation : 0}; }
  Served* open() const noexcept {
    return served && served->generation == generation && served->open ? served : nullptr;
  }
};

// What a socket loop's thread is busy with: the exchange whose bytes it read last.
struct Window {
  bool set = false;
  ServedHandle owner;
  SocketId sock = 0;  // where the bytes came from
  IoMark opened;
};

struct Ec {
  EcKey key;
  Nanos birth = 0;
  Nanos seen = 0;
  IntrusiveList<Served, &Served::in_reader> open;  // read by it, unanswered
  bool open_shared = false;  // every one in `open` has been told that it is not alone
  IntrusiveList<Call, &Call::in_ec> calls;  // begun by it, undecided, in the order of their begin
  // Answers. `answered`: it last completed a response; `wrote*`: it last wrote to an inbound
  // socket.
  Nanos answered = 0;
  Nanos wrote = 0, wrote_before = 0;  // before: to another socket than wrote_sock
  SocketId wrote_sock = 0;
  // Threads only.
  SocketId last_sock = 0;
  std::uint64_t switches = 0;  // how often it turned to another socket
  Nanos foreign = 0;           // it last touched a call that it did not begin for its open request
  Window window;
  IoMark last;  // its last event, and whom that was for
  ServedHandle last_owner;
};

struct ProcessState {
  std::uint32_t pid = 0;
  Runtime runtime = Runtime::unknown;
  Nanos seen = 0;
  IntrusiveList<Served, &Served::in_process> open;
  IntrusiveList<Call, &Call::in_process> calls;  // undecided
};

struct SocketState {
  SocketId id = 0;
  IntrusiveList<Served, &Served::in_socket> open;  // in the order of the requests
  bool connect_seen = false;
  ServedHandle connect_owner;
  ServedHandle last_owner;  // of the last call that ended on it
  bool closed = false;
};

// Where a span's time went, in nanoseconds.
struct TimeSplit {
  Nanos cpu = 0, runq = 0, blocked = 0;
};

}  // namespace olly::context
