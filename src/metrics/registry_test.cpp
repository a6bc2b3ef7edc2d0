#include "metrics/registry.h"

#include <gtest/gtest.h>

#include <map>
#include <stop_token>
#include <thread>

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

TEST(MetricRegistry, UpdateIsSeenWholeOrNotAtAll) {
  MetricRegistry registry;
  Counter& seen = registry.counter("olly_seen_total", "");
  Counter& parsed = registry.counter("olly_parsed_total", "");
  Gauge& pending = registry.gauge("olly_pending", "");
  const std::jthread writer([&](const std::stop_token& over) {
    for (std::uint64_t n = 0; !over.stop_requested(); n += 3) {
      {
        const MetricRegistry::Update together(registry);
        seen.set(3 * n);
        std::this_thread::yield();  // a reader gets its chance in the middle
        parsed.set(n);
        pending.set(static_cast<std::int64_t>(2 * n));
      }
      for (int i = 0; i < 4; ++i) std::this_thread::yield();  // as the agent does, for longer
    }
  });
  std::size_t changes = 0;
  double last = 0;
  for (int i = 0; i < 2000 || (changes < 10 && i < 1'000'000); ++i) {
    std::map<std::string_view, double> values;
    registry.visit([&](const MetricRegistry::Sample& s) { values[s.name] = s.value; });
    ASSERT_EQ(values["olly_seen_total"], values["olly_parsed_total"] + values["olly_pending"]);
    if (values["olly_seen_total"] != last) ++changes;
    last = values["olly_seen_total"];
  }
  EXPECT_GE(changes, 10u);
}

TEST(MetricRegistry, FractionsOfAUnit) {
  MetricRegistry registry;
  registry.counter("olly_cpu_seconds_total", "", {}, "s", 1e6).set(1'234'567);
  registry.counter("olly_spans_total", "").set(3);
  registry.visit([](const MetricRegistry::Sample& s) {
    const bool seconds = s.name == "olly_cpu_seconds_total";
    EXPECT_EQ(s.value, seconds ? 1.234567 : 3);
    EXPECT_EQ(s.whole, !seconds);
    EXPECT_EQ(s.unit, seconds ? "s" : "");
  });
}

}  // namespace
}  // namespace olly
