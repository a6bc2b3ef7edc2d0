#include "export/destination.h"

#include <gtest/gtest.h>

#include <chrono>
#include <semaphore>

namespace olly {
namespace {

using namespace std::chrono_literals;

// Takes items one by one, each when the test lets it.
struct GatedWriter final : Writer {
  explicit GatedWriter(std::shared_ptr<ExportCounters> c) : counters(std::move(c)) {}
  std::string_view name() const noexcept override { return "test"; }
  Result<void> open() override { return {}; }
  void deliver(const ExportItem& item, const StopSignals& stop) override {
    busy.release();
    while (!gate.try_acquire_for(1ms)) {
      if (stop.abort.is_set()) {
        counters->dropped(item, DropCause::export_shutdown);
        return;
      }
    }
    counters->exported(item.span_count(), item.point_count());
  }
  std::shared_ptr<ExportCounters> counters;
  std::counting_semaphore<> busy{0};
  std::counting_semaphore<> gate{0};
};

class DestinationTest : public testing::Test {
 protected:
  void start(std::uint64_t queue_bytes) {
    counters_ = std::make_shared<ExportCounters>(registry_, "test");
    auto writer = std::make_unique<GatedWriter>(counters_);
    writer_ = writer.get();
    destination_ = std::make_unique<Destination>(std::move(writer), counters_, queue_bytes);
    ASSERT_TRUE(destination_->start());
  }
  static ExportItem item() {
    auto batch = std::make_shared<MetricBatch>();
    batch->points.resize(1);
    ExportItem out;
    out.metrics = std::move(batch);
    return out;
  }
  // The value of the metric `name` whose labels have `value` in them; -1: there is none.
  double metric(std::string_view name, std::string_view value) {
    double out = -1;
    registry_.visit([&](const MetricRegistry::Sample& sample) {
      if (sample.name != name) return;
      bool has = false;
      bool spans = false;
      for (const auto& [key, text] : *sample.labels) {
        has = has || text == value;
        spans = spans || text == "spans";
      }
      if (has && !spans) out = sample.value;
    });
    return out;
  }
  double dropped(std::string_view cause) { return metric("olly_export_dropped_total", cause); }
  double exported() { return metric("olly_exported_points_total", "test"); }
  double queued() { return metric("olly_export_queue_bytes", "test"); }

  MetricRegistry registry_;
  std::shared_ptr<ExportCounters> counters_;
  GatedWriter* writer_ = nullptr;
  std::unique_ptr<Destination> destination_;
};

TEST_F(DestinationTest, FullQueueDropsTheNewestAndCountsIt) {
  start(1);  // an empty queue takes an item of any size
  destination_->push(item());
  writer_->busy.acquire();     // in delivery: the queue is empty
  destination_->push(item());  // so it takes another one
  destination_->push(item());
  EXPECT_EQ(dropped("queue_full"), 1);
  writer_->gate.release(2);
  destination_->stop(SteadyClock::now() + 5s);
  EXPECT_EQ(exported(), 2);
  EXPECT_EQ(queued(), 0);
}

TEST_F(DestinationTest, StopWritesWhatIsQueued) {
  start(1 << 20);
  for (int i = 0; i < 5; ++i) destination_->push(item());
  writer_->gate.release(5);
  destination_->stop(SteadyClock::now() + 5s);
  EXPECT_EQ(exported(), 5);
  EXPECT_EQ(dropped("export_shutdown"), 0);
}

TEST_F(DestinationTest, StopCountsWhatItHadNoTimeFor) {
  start(1 << 20);
  for (int i = 0; i < 5; ++i) destination_->push(item());
  writer_->busy.acquire();
  destination_->stop(SteadyClock::now());  // the deadline is over: aborts
  EXPECT_EQ(exported(), 0);
  EXPECT_EQ(dropped("export_shutdown"), 5);
  EXPECT_EQ(queued(), 0);
  destination_->stop(SteadyClock::now());  // idempotent
  EXPECT_EQ(dropped("export_shutdown"), 5);
}

}  // namespace
}  // namespace olly
