// The agent's own footprint as gauges: memory, CPU time, threads, uptime. Read when asked for.
#pragma once

#include "metrics/registry.h"

namespace olly {

void register_self_metrics(MetricRegistry& registry);

}  // namespace olly
