// What a protocol is to the pipeline: a way to recognise it, and a parser per connection. See
// src/protocol/README.md for how to add one.
//
// A parser gets contiguous bytes of either direction, in the order in which they were moved as far
// as that is known, and says what became of them. It is noexcept, bounded, and allocates nothing
// while it waits for more bytes. It makes Exchanges through ExchangeSink; every exchange it began
// it finishes.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "conntrack/connection.h"
#include "protocol/exchange.h"
#include "reassembly/stream.h"

namespace olly {

using reassembly::Window;

// What the first bytes of one direction say.
enum class Verdict : std::uint8_t {
  no,         // not this protocol
  need_more,  // could be; the bytes end too early
  maybe,      // looks like it: the parser starts, other protocols stay candidates
  yes,        // a whole frame start of this protocol
};

enum class ParseStatus : std::uint8_t {
  frame,      // `consumed` bytes were (part of) a valid message; call again
  more,       // as frame, but proves nothing (padding, an empty line); call again
  need_more,  // `consumed` bytes are done; the rest must wait for more
  discard,    // `consumed` bytes were passed over while looking for a message start; call again
  invalid,  // this is not the protocol, or a broken peer; `consumed` bytes are given up; call again
  opaque,   // nothing on this connection will be readable any more
  upgrade,  // `consumed` bytes are done; behind them, and behind what the other direction has been
            // read of, both go on in the protocol that `token` names
  tls,      // as upgrade, but both go on in TLS. A parser that reads on in the plaintext says in
            // rest() how, and is resumed when that is seen from its beginning
};

struct ParseResult {
  ParseStatus status = ParseStatus::need_more;
  std::size_t consumed = 0;
  std::uint64_t skip = 0;  // bytes behind `consumed` that no one needs to read
  std::string_view token;  // of an upgrade (RFC 9110 7.8); valid as long as the window
};

// What a parser leaves to the one that takes the connection over.
struct Upgrade {
  Direction request_direction = Direction::recv;
  Exchange* exchange = nullptr;    // the request that asked for it: the new parser finishes it
  std::int64_t request_body = -1;  // of that request; negative = it had none
};

enum class EndReason : std::uint8_t {
  closed,      // the socket is gone; `error` may say why
  evicted,     // the memory budget
  stopped,     // the agent ends
  revised,     // it was another protocol after all
  unreadable,  // the parser said `opaque`: it is open, but nothing more can be read on it
  ignored,     // it turned out not to be for us: not observed, or the agent's own
};

class ProtocolParser {
 public:
  virtual ~ProtocolParser() = default;
  // Called with an empty window when a skip has ended just there.
  virtual ParseResult parse(Direction direction, const Window& window) noexcept = 0;
  // `n` bytes of a skip were moved at that moment.
  virtual void skipped(Direction direction, std::uint64_t n, const IoMark& mark) noexcept = 0;
  // Bytes were lost outside of a skip. length 0: positions became uncertain.
  virtual void gap(Direction direction, std::uint64_t position, std::uint64_t length) noexcept = 0;
  // recv returned 0.
  virtual void eof(Direction direction, const IoMark& mark) noexcept = 0;
  // Nothing was moved for the request time-out.
  virtual void timeout(Nanos now) noexcept = 0;
  // Finishes every exchange. The last call.
  virtual void end(EndReason reason, Nanos time, std::uint32_t error) noexcept = 0;
  // After `upgrade`, when there is a protocol that goes on; then end() comes. When there is none,
  // end(unreadable) comes alone.
  virtual Upgrade hand_over() noexcept { return {}; }
  // The open exchange to which bytes moved now in that direction belong, or null.
  virtual Exchange* current(Direction direction) const noexcept = 0;
  // Event time at which parse() or tick() wants to be called again; 0 = none.
  virtual Nanos wake_at() const noexcept = 0;
  virtual void tick(Nanos now) noexcept = 0;
  // Asked while the connection is idle and no byte waits: what it takes to go on later, where
  // nothing is open and 32 bits are enough, or the number under which its Protocol keeps the rest
  // of it (common/rest_store.h); else nothing. With an answer it is destroyed, without end(). When
  // the connection moves bytes again, Protocol::resume() makes another one of it; when it never
  // will, Protocol::forget() is called.
  virtual std::optional<std::uint32_t> rest() noexcept { return std::nullopt; }
  // Bytes it holds beside itself (tables, queues); counts against capture.memory.
  virtual std::size_t memory() const noexcept { return 0; }
};

// One per Tracker: may hold pools shared by its parsers, which it outlives.
class Protocol {
 public:
  virtual ~Protocol() = default;
  virtual Verdict detect(Direction direction, ByteView bytes) const noexcept = 0;
  // `from_start`, by direction: the stream has been seen from its first byte (else it may begin in
  // the middle of a message). `lost`: bytes were lost before this. The connection outlives the
  // parser.
  virtual std::unique_ptr<ProtocolParser> open(Connection& connection, ExchangeSink& sink,
                                               std::array<bool, 2> from_start,
                                               bool lost) noexcept = 0;
  // Another parser in the state in which one of this protocol's rested; see there. Never called for
  // a protocol whose parsers do not rest.
  virtual std::unique_ptr<ProtocolParser> resume(Connection&, ExchangeSink&,
                                                 std::uint32_t /*rested*/) noexcept {
    return nullptr;
  }
  virtual void forget(std::uint32_t /*rested*/) noexcept {}
  // Bytes that it keeps for parsers that rest; count against capture.memory.
  virtual std::size_t rested_bytes() const noexcept { return 0; }
  // Bytes of each call that its parsers read: whole heads, or more where messages begin anywhere in
  // a call (pipelines, rows). A hint; capture.max_bytes_per_call is the limit, and what is copied
  // of a connection whose protocol is not known yet.
  virtual std::uint32_t bytes_per_call() const noexcept { return 4096; }
  // Whether it is the one that follows an upgrade to this token, and how it goes on.
  virtual bool continues(std::string_view /*token*/) const noexcept { return false; }
  virtual std::unique_ptr<ProtocolParser> take_over(Connection&, ExchangeSink&,
                                                    const Upgrade&) noexcept {
    return nullptr;
  }
};

}  // namespace olly
