#include "traces/builder.h"

#include <algorithm>

namespace olly {

void set_times(Node& node) noexcept {
  const Exchange& e = node.exchange;
  node.start = e.request_first.time;
  node.end = node.start;
  for (const IoMark* mark : {&e.request_last, &e.response_first, &e.response_last}) {
    node.end = std::max(node.end, mark->time);
  }
  if (node.join && node.key.side == Side::client && e.incomplete.empty()) {
    node.join->client_end = node.end;
  }
}

Span build_span(Node& node, Nanos unix_offset) noexcept {
  Exchange& e = node.exchange;
  if (const Join* join = node.join) {
    if (node.key.side == Side::client) {
      if (join->server_seen && join->server_start != 0) {
        node.start = std::min(node.start, join->server_start);
      }
    } else if (join->client_end != 0 && e.incomplete.empty()) {
      node.end = std::max(node.start, std::min(node.end, join->client_end));
    }
  }
  if (!node.method.empty()) e.attributes.add(kLinkMethod, node.method);
  if (!e.incomplete.empty()) e.attributes.add(kIncomplete, e.incomplete);
  if (node.time) {
    constexpr double kSeconds = 1e-9;
    const Nanos length = node.end - node.start;
    const context::TimeSplit& t = *node.time;
    const Nanos cpu = std::min(t.cpu, length);
    const Nanos runq = std::min(t.runq, length - cpu);
    const Nanos blocked = std::min(t.blocked, length - cpu - runq);
    e.attributes.add(kTimeCpu, static_cast<double>(cpu) * kSeconds);
    e.attributes.add(kTimeRunqueue, static_cast<double>(runq) * kSeconds);
    e.attributes.add(kTimeBlocked, static_cast<double>(blocked) * kSeconds);
  }

  Span span;
  span.trace_id = node.trace;
  span.span_id = node.id;
  span.parent_id = node.parent;
  span.kind = node.key.side == Side::server ? SpanKind::server : SpanKind::client;
  span.status = e.status;
  span.flags = node.trace_flags;
  if (node.parent.valid() && node.remote_known) {
    span.flags |= kFlagHasIsRemote | (node.remote ? kFlagIsRemote : 0);
  }
  span.start_unix = node.start + unix_offset;
  span.end_unix = node.end + unix_offset;
  span.name = e.attributes.text(e.name);
  span.status_message = e.attributes.text(e.status_message);
  if (e.trace_parent.valid && e.trace_parent.trace_id == node.trace) {
    span.trace_state = e.attributes.text(e.trace_state);
  }
  span.attributes = &e.attributes;
  span.resource = &e.process->resource;
  return span;
}

}  // namespace olly
