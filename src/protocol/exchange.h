// The border between protocols and traces: a protocol pairs messages into exchanges, the traces
// room turns exchanges into linked spans. The traces room owns every Exchange (a pool); a protocol
// fills in what it learns between begin() and finish().
#pragma once

#include <cstdint>
#include <string_view>

#include "conntrack/connection.h"
#include "event/event.h"
#include "traces/attributes.h"
#include "traces/span.h"

namespace olly {

// Which end of the exchange was observed: the one that read the request, or the one that wrote it.
enum class Side : std::uint8_t { server, client };

// One moment of I/O and who ran then. time 0 = has not happened (or was not seen).
struct IoMark {
  Nanos time = 0;
  std::uint32_t tid = 0;
  std::uint64_t ec = 0;
  Nanos cpu = 0;
  Nanos runq = 0;
  bool nonblocking = false;
  bool seen() const noexcept { return time != 0; }
};

inline IoMark mark_of(const IoEvent& e) noexcept {
  return {e.time, e.task.tid, e.task.ec, e.task.cpu, e.task.runq, e.nonblocking};
}

// A valid W3C traceparent (Trace Context level 2), as received or as sent by the program itself.
struct TraceParent {
  bool valid = false;
  TraceId trace_id;
  SpanId parent_id;
  std::uint8_t flags = 0;
};

struct Exchange {
  // Set by ExchangeSink::begin.
  Side side = Side::server;
  SocketId sock = 0;
  ConnectionIdentity identity;
  std::uint64_t position = 0;  // of the request's first byte in its stream
  ProcessPtr process;

  // Filled in by the protocol.
  IoMark request_first;  // first and last byte of the request, as moved at the observed end
  IoMark request_last;
  IoMark response_first;
  IoMark response_last;
  TraceParent trace_parent;
  AttributeList::Text trace_state;  // ranges of `attributes`
  AttributeList::Text name;
  AttributeList::Text status_message;
  StatusCode status = StatusCode::unset;
  // Others can be open on its connection at the same time and are answered in any order, and who
  // moves their bytes may do that for several callers. Set before request().
  bool multiplexed = false;
  AttributeList attributes;
  std::string_view incomplete;  // static text for olly.incomplete; empty = whole

  // The traces room's own: null outside it.
  void* engine = nullptr;
};

class ExchangeSink {
 public:
  virtual ~ExchangeSink() = default;

  // A request's head is known. Returns null when the budget is exhausted (counted): the protocol
  // goes on parsing without a span. The Exchange stays valid until finish().
  virtual Exchange* begin(const Connection& connection, Side side, std::uint64_t position,
                          const IoMark& request_first) noexcept = 0;
  // The head's attributes, trace_parent and request_last (so far) are filled in: the interval of
  // engine rule 2 opens here. Called once, right after begin().
  virtual void request(Exchange& exchange) noexcept = 0;
  // Another one was open on the connection of this multiplexed one: who moves its bytes says
  // nothing any more of whom it belongs to. After request(), at most once.
  virtual void overlapped(Exchange& /*exchange*/) noexcept {}
  // Everything that will ever be known is filled in; the pointer is dead after it. An exchange that
  // lost its end says so in `incomplete`.
  virtual void finish(Exchange* exchange) noexcept = 0;

  // Every I/O event of an observed connection, after its bytes were parsed. `current` is the open
  // exchange those bytes belong to (request or response), or null. This is what windows, time
  // accounting and "who served what" are made of.
  virtual void activity(const Connection& connection, const IoEvent& event,
                        Exchange* current) noexcept = 0;
  // connect() was called; `connection` has no identity yet.
  virtual void connecting(const ConnectEvent& event) noexcept = 0;
  // Events of this time may be missing, of any connection. Comes before those that are not.
  virtual void lost(Nanos /*from*/, Nanos /*to*/) noexcept {}
  // Both ends of matching know of each other by identity: a connection came and went.
  virtual void opened(const Connection& connection) noexcept = 0;
  virtual void closed(const Connection& connection, Nanos time) noexcept = 0;
};

}  // namespace olly
