// What the keys of tracing do, from the configuration to the spans.
#include "agent/pipeline.h"

#include <gtest/gtest.h>

#include "hook/replay/provider.h"
#include "hook/replay/recording.h"

namespace olly::agent {
namespace {

struct Count final : SpanSink {
  void emit(const Span&) noexcept override { ++spans; }
  int spans = 0;
};

int spans_with(const config::Config& config) {
  const auto recording = replay::load(OLLY_SOURCE_DIR "/tests/replay/http_simple.olly");
  EXPECT_TRUE(recording);
  replay::ReplayProvider provider(*recording, {});
  MetricRegistry metrics;
  Count sink;
  PipelineOptions options{config, {}, 0};
  options.processes.proc = "/no/such/folder";
  Pipeline pipeline(options, provider, sink, metrics, {});
  while (provider.poll(pipeline, 0)) {
  }
  pipeline.finish(provider.now());
  return sink.spans;
}

TEST(Pipeline, TracingKeys) {
  config::Config config;
  EXPECT_EQ(spans_with(config), 1);
  config.tracing.protocols["http"] = false;
  EXPECT_EQ(spans_with(config), 0);
  config.tracing.protocols["http"] = true;
  EXPECT_EQ(spans_with(config), 1);
  config.tracing.enabled = false;
  EXPECT_EQ(spans_with(config), 0);
}

}  // namespace
}  // namespace olly::agent
