// A recording through the whole pipeline, offline: provider, connections, protocols, traces. What
// `olly replay` and the replay tests do.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "hook/replay/check.h"
#include "hook/replay/provider.h"
#include "hook/replay/recording.h"
#include "metrics/registry.h"
#include "reassembly/ledger.h"
#include "traces/span.h"

namespace olly::replay {

struct RunOptions {
  ProviderOptions provider;  // split payloads, lose calls
  Nanos link_wait = 2 * kSecond;
  bool rest_at_once = false;  // see conntrack::TrackerOptions
  SpanSink* also = nullptr;   // gets every span as it leaves, too
};

struct RunResult {
  std::vector<KeptSpan> spans;      // sorted by sort_spans
  reassembly::ByteLedger bytes[2];  // by Direction
  bool bytes_conserved = false;     // in total and for each stream
  std::unique_ptr<MetricRegistry> metrics;
  std::string difference;  // from the recording's expectations; empty = all hold
};

// Deterministic: the same recording and options give the same result.
RunResult run_replay(const Recording& recording, const RunOptions& options);

}  // namespace olly::replay
