// Runs the `expect` statements of a recording against what came out.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hook/replay/recording.h"
#include "metrics/registry.h"
#include "traces/span.h"

namespace olly::replay {

// A span that outlives SpanSink::emit.
struct KeptSpan {
  TraceId trace_id;
  SpanId span_id;
  SpanId parent_id;
  SpanKind kind = SpanKind::internal;
  StatusCode status = StatusCode::unset;
  std::uint32_t flags = 0;
  Nanos start = 0;  // since the beginning of the recording
  Nanos end = 0;
  std::string name, status_message, trace_state, service;
  std::map<std::string, std::string> attributes;  // values as text
};
KeptSpan keep(const Span& span, Nanos start_unix);
// One line: everything an expectation can ask for.
std::string describe(const KeptSpan& span);
// By start, then the longer one, then CLIENT before SERVER, then id.
void sort_spans(std::vector<KeptSpan>& spans);

// What an expectation about bytes asks for; direction empty = both, connection empty = all. Nothing
// when the fate cannot be told that finely.
using ByteCount = std::function<std::optional<std::uint64_t>(
    std::string_view fate, std::optional<Direction> direction, std::string_view connection)>;

struct Outcome {
  std::vector<KeptSpan> spans;
  ByteCount bytes;
  MetricRegistry* metrics = nullptr;
};

// Empty = all hold. Else the first difference: file:line, what was expected, what was there.
std::string check(const Recording& recording, const Outcome& outcome);

}  // namespace olly::replay
