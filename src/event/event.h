// Events as the pipeline sees them: the records of event/abi.h, decoded, from whichever producer.
// One thread hands them on, in the order of their time stamps (ties in any order).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/time.h"

namespace olly {

// A socket for its whole life, unique while the agent runs. Zero is no socket.
using SocketId = std::uint64_t;

// What a TLS connection's plaintext is called where its two layers need two names: in the capture
// policy (OLLY_PLAINTEXT_POLICY).
constexpr SocketId plaintext_layer(SocketId sock) noexcept { return sock ^ 0x8000000000000400ull; }

enum class Direction : std::uint8_t { recv = 0, send = 1 };
constexpr Direction opposite(Direction d) noexcept {
  return d == Direction::recv ? Direction::send : Direction::recv;
}
// For what is kept by direction.
constexpr std::size_t index(Direction d) noexcept { return static_cast<std::size_t>(d); }

enum class Role : std::uint8_t { unknown = 0, inbound = 1, outbound = 2 };
enum class Family : std::uint8_t { none = 0, unix_stream = 1, inet = 4, inet6 = 6 };

// Who ran, and what the thread had used by then (both counters up to a constant; differences of one
// thread count).
struct TaskStamp {
  std::uint32_t pid = 0;  // initial pid namespace
  std::uint32_t tid = 0;
  std::uint64_t ec = 0;  // goroutine id; 0 = the thread itself
  Nanos cpu = 0;
  Nanos runq = 0;
};

// Address and port, or a UNIX path. Plain data, so that a connection costs no allocation.
struct Endpoint {
  Family family = Family::none;
  std::uint16_t port = 0;
  std::array<std::uint8_t, 16> addr{};  // network order; inet uses the first 4
};

// "10.0.0.1", "::1"; empty for UNIX and none.
std::string address_text(const Endpoint& endpoint);
// "10.0.0.1:80", "[::1]:80".
std::string endpoint_text(const Endpoint& endpoint);

// The sequence numbers of the two streams' first bytes, as seen from this end. The other end of the
// same connection has them swapped, whatever NAT is between (TCP). UNIX: hashes of the two ends.
// {0,0} = not known.
struct ConnectionIdentity {
  std::uint32_t out_first = 0;
  std::uint32_t in_first = 0;
  bool known() const noexcept { return out_first != 0 || in_first != 0; }
  ConnectionIdentity peer() const noexcept { return {in_first, out_first}; }
  bool operator==(const ConnectionIdentity&) const = default;
};

struct ProcessEvent {
  enum class Kind : std::uint8_t { exec, fork, exit } kind = Kind::exec;
  Nanos time = 0;
  std::uint32_t pid = 0;
  std::uint32_t parent_pid = 0;
  std::string_view comm;      // valid during the call
  std::string_view filename;  // exec; valid during the call
  // Replay files say what /proc would: empty when the producer is live.
  std::string_view exe;
  std::string_view service;
};

struct ConnectEvent {
  Nanos time = 0;
  TaskStamp task;
  SocketId sock = 0;
  std::uint32_t error = 0;  // 0: connect() was called now; else it has failed with this errno
};

struct OpenEvent {
  Nanos time = 0;
  TaskStamp task;
  SocketId sock = 0;
  Role role = Role::unknown;
  Endpoint local;
  Endpoint remote;
  std::string_view path;  // UNIX; valid during the call
  ConnectionIdentity identity;
  std::uint32_t netns = 0;
  std::uint64_t recv_pos = 0;  // bytes moved before this event
  std::uint64_t send_pos = 0;
  Nanos connect_duration = 0;  // 0 = unknown
  bool met = false;            // older than the agent
  bool own = false;            // one of the agent's own sockets
};

struct IoEvent {
  Nanos time = 0;
  TaskStamp task;
  SocketId sock = 0;
  Direction direction = Direction::recv;
  std::uint64_t position = 0;        // of the first byte that the call moved
  std::uint32_t length = 0;          // bytes that the call moved
  std::uint32_t payload_offset = 0;  // payload[0] is the byte at position + payload_offset
  ByteView payload;                  // valid during the call
  bool eof = false;                  // recv returned 0
  bool nonblocking = false;          // recv only: the call could not have slept
  bool overlap = false;              // several threads moved bytes at once: position is uncertain
  bool plaintext = false;            // of the layer that TLS protects: positions count its bytes
  bool ciphertext = false;           // moved by a TLS library
};

struct CloseEvent {
  Nanos time = 0;
  SocketId sock = 0;
  std::uint64_t recv_pos = 0;  // final positions; 0/0 with positions_known false
  std::uint64_t send_pos = 0;
  bool positions_known = false;
  std::uint32_t error = 0;
};

// What a TLS library says of a connection; 0 and empty: not known.
struct TlsEvent {
  Nanos time = 0;
  SocketId sock = 0;
  std::uint16_t version = 0;     // 0x0304 = TLS 1.3
  std::uint16_t cipher = 0;      // IANA's number
  std::string_view alpn;         // valid during the call
  std::string_view server_name;  // valid during the call
};

// A traceparent with these ids goes out in a request that the process writes next: they are the
// ids of that call's span.
struct InjectEvent {
  Nanos time = 0;
  std::uint32_t pid = 0;
  std::array<std::uint8_t, 16> trace_id{};
  std::array<std::uint8_t, 8> span_id{};
};

// Events of this time may be missing: a ring was full, or a socket's state found no memory. Handed
// on before the events of that time.
struct LossEvent {
  Nanos from = 0;
  Nanos to = 0;
};

// Where a provider puts events. Every method is called from the one pipeline thread and is
// noexcept: what cannot be kept is counted, never thrown.
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void on_process(const ProcessEvent& event) noexcept = 0;
  virtual void on_connect(const ConnectEvent& event) noexcept = 0;
  virtual void on_open(const OpenEvent& event) noexcept = 0;
  virtual void on_io(const IoEvent& event) noexcept = 0;
  virtual void on_close(const CloseEvent& event) noexcept = 0;
  virtual void on_tls(const TlsEvent&) noexcept {}
  virtual void on_inject(const InjectEvent&) noexcept {}
  // Bytes that went unseen show by their positions; this is for who reads meaning into what did not
  // happen in a time. A sink that only counts or writes events down may leave it out.
  virtual void on_loss(const LossEvent&) noexcept {}
  // No event with a time before `now` will follow. Drives every time-out of the pipeline.
  virtual void on_advance(Nanos now) noexcept = 0;
};

}  // namespace olly
