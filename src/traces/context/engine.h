// The context engine: which of the requests that a process serves made which of its calls. Pure
// logic over ids, times and marks: no bytes, no spans, no clock. One thread.
//
// Evidence (engine rules of ARCHITECTURE.md, "Who is whose parent"):
//   A  the context that read the request wrote the response: calls that it began in between are its
//      children, if it reads by calls that can sleep (or is a goroutine) and had no other request
//      open in that time.
//   W  another context wrote the response: calls which that one began since max(request read, its
//      own previous write). Stricter than A, because the context was not seen to begin: it has no
//      request of its own open, its calls do not overlap, each was read by itself by a call that
//      can sleep.
//   C  socket loops: a call belongs to the exchange whose bytes the thread read last; the first
//   bytes
//      on a new connection to the one that was current at connect(). The window closes when the
//      thread has slept for kWindowSleep since it opened: something else (a timer) woke it.
// Always: the request was read before the call began and unanswered when the call's response came.
//
// Multiplexed connections (HTTP/2) give none of it for requests that were open together: who reads
// or writes the connection does so for all of them. A call on one counts only if it had the
// connection to itself, and one context wrote the request and read the response.
//
// All of it reads meaning into what a context did not do, so none of it holds where events are
// missing (lost()), nor for kLossShadow longer: a request whose read was lost may still be open,
// one whose answer was lost only looks open, and what a parser finds behind a gap is on trial.
//
// Every operation is O(1) but the deciding of calls, which is O(1) for each call in its life.
#pragma once

#include <deque>
#include <optional>
#include <vector>

#include "traces/context/context.h"

namespace olly::context {

// Told in the middle of the engine's methods; must not call back into the engine.
class Listener {
 public:
  virtual ~Listener() = default;
  // call.owner is set and call is in owner->claims. Not final.
  virtual void claimed(Call& call) noexcept = 0;
  // call.state is owned or unowned. Final. When unowned, owner is null.
  virtual void decided(Call& call) noexcept = 0;
};

struct EngineOptions {
  std::size_t max_contexts = 65536;  // past that, idle ones are forgotten early
  std::size_t max_processes = 16384;
  std::size_t max_sockets = 131072;  // of socket loops
  Nanos idle = 30 * kSecond;         // a context that did no I/O for so long is forgotten
};

// One I/O call. `served` or `call`: the open exchange its bytes belong to, if any.
struct Io {
  SocketId sock = 0;
  Role role = Role::unknown;
  Direction direction = Direction::recv;
  std::uint32_t length = 0;
  std::uint32_t pid = 0;
  Runtime runtime = Runtime::unknown;
  IoMark mark;
  Served* served = nullptr;
  Call* call = nullptr;
};

class Engine {
 public:
  // The first call after a read that is later than this, measured as wall time less CPU and run
  // queue, does not come from that read.
  static constexpr Nanos kWindowSleep = kMillisecond;
  // How long what was lost is reckoned with.
  static constexpr Nanos kLossShadow = 2 * kSecond;

  Engine(const EngineOptions& options, Listener& listener)
      : options_(options), listener_(listener) {}

  // A request's head has been read. The caller has set sock, pid, runtime, first and read.
  void request_read(Served& served) noexcept;
  // It is over: `first` and `last` are the marks of the response (time 0: none was seen). Decides.
  void answered(Served& served, const IoMark& first, const IoMark& last) noexcept;

  // A call's head has been written. The caller has set sock, pid, runtime and begun.
  // `first_bytes`: nothing was ever sent on this connection before; `connects`: connections of this
  // kind have a connect() that is seen before their first bytes (TCP).
  void call_began(Call& call, bool first_bytes, bool connects) noexcept;
  void call_ended(Call& call, const IoMark& first, const IoMark& last) noexcept;
  // Nobody waits any longer. Does nothing to a call that is decided.
  void give_up(Call& call, Cause cause) noexcept;

  void io(const Io& io) noexcept;
  void connecting(const ConnectEvent& event) noexcept;
  // Events between the two times may be missing. Told before what is known of that time is.
  void lost(Nanos from, Nanos to) noexcept;
  void closed(SocketId sock) noexcept;
  // Forgets idle contexts, a few at a time.
  void advance(Nanos now) noexcept;

  // Where the time went; nothing when the thread served another context in between. Right after
  // answered(), before the caller detaches its claims.
  std::optional<TimeSplit> time_of(const Served& served, const IoMark& last) noexcept;
  // Right after call_ended(), before io() of the same event.
  std::optional<TimeSplit> time_of(const Call& call) noexcept;

  std::size_t contexts() const noexcept { return ecs_.size(); }
  std::size_t bytes() const noexcept;

 private:
  static EcKey key_of(Runtime runtime, std::uint32_t pid, const IoMark& mark) noexcept;
  Ec* find_ec(const EcKey& key) noexcept;
  Ec& ec(const EcKey& key, Nanos now) noexcept;
  ProcessState& process(std::uint32_t pid, Runtime runtime, Nanos now) noexcept;
  SocketState* socket(SocketId sock, bool create) noexcept;
  void share(Ec& e) noexcept;
  Served* current(Ec& thread, const IoMark& now) noexcept;
  void claim(Call& call, Served& served, Method method) noexcept;
  void unown(Call& call, Cause cause) noexcept;
  void settle_claim(Call& call) noexcept;
  void decide_by_writer(Served& served, Ec& writer, const IoMark& last) noexcept;
  bool holes(Nanos from, Nanos to) const noexcept;
  bool calls_overlap(const Ec& e, Nanos from, Nanos to) const noexcept;
  void drop_unclaimable(ProcessState& p) noexcept;
  void io_threads(const Io& io, Ec& e) noexcept;
  void io_loop(const Io& io, Ec& e) noexcept;
  void note_foreign(const Call& call, const IoMark& mark) noexcept;
  void account(Ec& thread, Served* owner, const IoMark& mark, bool writes) noexcept;
  void sweep_ecs(Nanos now, std::size_t steps, Nanos idle) noexcept;
  void sweep_processes(Nanos now, std::size_t steps, Nanos idle) noexcept;
  void erase_socket(SocketState& s) noexcept;

  struct IdHash {
    std::uint64_t operator()(std::uint64_t id) const noexcept { return mix64(id); }
  };
  // Elements live in deques, which never move them; the maps point there; freed ones are used
  // again.
  template <class T>
  struct Pool {
    std::deque<T> all;
    std::vector<T*> free;
    T& take() {
      if (free.empty()) return all.emplace_back();
      T& item = *free.back();
      free.pop_back();
      item = T{};
      return item;
    }
    void give(T& item) { free.push_back(&item); }
  };

  EngineOptions options_;
  Listener& listener_;
  FlatMap<EcKey, Ec*, EcKeyHash> ecs_;
  FlatMap<std::uint64_t, ProcessState*, IdHash> processes_;
  FlatMap<std::uint64_t, SocketState*, IdHash> sockets_;
  Pool<Ec> ec_pool_;
  Pool<ProcessState> process_pool_;
  Pool<SocketState> socket_pool_;
  struct Loss {
    Nanos from = 0, to = 0;
  };
  static constexpr std::size_t kMaxLosses = 64;
  std::vector<Loss> losses_;  // in the order of time, apart
  std::size_t ec_hand_ = 0, process_hand_ = 0;
  Nanos swept_ = 0;
};

// The difference of two marks of one thread, or nothing when they do not fit the time between them.
// Zero counters mean that the producer did not know them.
std::optional<TimeSplit> split(const IoMark& from, const IoMark& to, Nanos duration) noexcept;

}  // namespace olly::context
