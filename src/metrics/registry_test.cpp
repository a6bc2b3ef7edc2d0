#include "metrics/registry.h"

#include <gtest/gtest.h>

#include <map>

namespace olly {
namespace {

TEST(MetricRegistry, LabelSetsAreBounded) {
  MetricRegistry registry;
  for (int service = 0; service < 2000; ++service) {
    for (const char* cause : {"late", "handed_over"}) {
      registry
          .counter("olly_unlinked_total", "",
                   {{"service", std::to_string(service)}, {"cause", cause}})
          .add();
    }
  }
  for (int i = 0; i < 5000; ++i) {
    registry.counter("olly_x_total", "", {{"a", std::to_string(i)}, {"b", std::to_string(i)}})
        .add();
  }
  std::map<std::string, std::size_t> series;
  std::map<std::string, double> others, sum;
  registry.visit([&](const MetricRegistry::Sample& sample) {
    ++series[std::string(sample.name)];
    sum[std::string(sample.name)] += sample.value;
    if (sample.labels->front().second == "other") {
      others[std::string(sample.name) + sample.labels->back().second] += sample.value;
    }
  });
  // The cause stays known.
  EXPECT_EQ(series["olly_unlinked_total"], MetricRegistry::kMaxSeries + 2);
  EXPECT_EQ(others["olly_unlinked_totallate"], 2000 - MetricRegistry::kMaxSeries / 2);
  EXPECT_LE(series["olly_x_total"], 2 * MetricRegistry::kMaxSeries + 1);
  EXPECT_EQ(sum["olly_unlinked_total"], 4000);
  EXPECT_EQ(sum["olly_x_total"], 5000);
}

}  // namespace
}  // namespace olly
