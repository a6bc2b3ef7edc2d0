// One exchange on its way to a span: what the traces room keeps of it.
#pragma once

#include <optional>
#include <string_view>

#include "base/intrusive_list.h"
#include "traces/context/context.h"
#include "traces/ids.h"

namespace olly {

struct Join;

struct Node {
  enum class Wait : std::uint8_t { none, settle, link };

  Exchange exchange;
  context::Served served;  // side server
  context::Call call;      // side client
  SpanKey key;
  Family family = Family::none;

  bool announced = false;  // request() was called
  bool finished = false;
  bool trace_known = false;   // trace, flags: final, children may have them
  bool parent_known = false;  // parent, method: final
  TraceId trace;
  SpanId id;
  SpanId parent;
  std::uint8_t trace_flags = 1;  // W3C: sampled
  bool remote_known = false;     // the parent is known to be, or not to be, in another process
  bool remote = false;
  bool injected = false;    // its ids went out in its own request: they are final from the start
  std::string_view method;  // olly.link.method; empty = root or unlinked
  context::Cause cause = context::Cause::none;

  // Of the owner of a call, once that knows its trace.
  bool owner_known = false;
  TraceId owner_trace;
  SpanId owner_span;
  std::uint8_t owner_flags = 1;

  Nanos start = 0, end = 0;
  std::optional<context::TimeSplit> time;

  Join* join = nullptr;
  Wait wait = Wait::none;
  Nanos deadline = 0;
  std::size_t charged = 0;  // bytes of the budget
  Hook<Node> waiting;
};

}  // namespace olly
