#include "export/batch.h"

#include <gtest/gtest.h>

namespace olly {
namespace {

class BatcherTest : public testing::Test {
 protected:
  void emit(const ResourcePtr& r, std::string_view name) {
    AttributeList list;
    const AttributeList::Text inside = list.add_text("inside");
    list.add("key", "value");
    Span s;
    s.name = name.empty() ? list.text(inside) : name;
    s.attributes = &list;
    s.resource = &r;
    batcher.emit(s);
  }
  MetricRegistry registry;
  Counter& dropped = registry.counter("dropped", "");
  std::vector<std::shared_ptr<const SpanBatch>> got;
  Batcher batcher{[this](std::shared_ptr<const SpanBatch> b) { got.push_back(std::move(b)); },
                  dropped};
  ResourcePtr one = std::make_shared<Resource>();
};

TEST_F(BatcherTest, LeavesWhenASecondOld) {
  batcher.advance(5 * kSecond);
  emit(one, "outside");
  batcher.advance(6 * kSecond - 1);
  EXPECT_TRUE(got.empty());
  emit(one, "");
  batcher.advance(6 * kSecond);
  ASSERT_EQ(got.size(), 1u);
  const auto spans = got[0]->spans();
  ASSERT_EQ(spans.size(), 2u);
  EXPECT_EQ(got[0]->text(spans[0].name), "outside");
  EXPECT_EQ(got[0]->text(spans[1].name), "inside");
  for (const BatchSpan& s : spans) {
    ASSERT_EQ(got[0]->attributes(s).size(), 1u);
    EXPECT_EQ(got[0]->string(s, got[0]->attributes(s)[0]), "value");
  }
  batcher.advance(60 * kSecond);
  EXPECT_EQ(got.size(), 1u);  // nothing is sent when there is nothing
}

TEST_F(BatcherTest, LeavesWhenFullByCountAndByBytes) {
  for (std::size_t i = 0; i < Batcher::kMaxSpans; ++i) emit(one, "n");
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0]->spans().size(), Batcher::kMaxSpans);
  const std::string big(Batcher::kMaxBytes / 2, 'x');
  emit(one, big);
  EXPECT_EQ(got.size(), 1u);
  emit(one, big);  // does not fit beside the first
  ASSERT_EQ(got.size(), 2u);
  EXPECT_LE(got[1]->bytes(), Batcher::kMaxBytes);
  batcher.flush();
  EXPECT_EQ(got.size(), 3u);
  EXPECT_EQ(dropped.value(), 0u);
}

TEST_F(BatcherTest, ManyResourcesAreToldApart) {
  std::vector<ResourcePtr> many;
  for (int i = 0; i < 500; ++i) many.push_back(std::make_shared<Resource>());
  for (int round = 0; round < 2; ++round) {
    for (const ResourcePtr& r : many) emit(r, "n");
  }
  batcher.flush();
  ASSERT_EQ(got.size(), 1u);
  ASSERT_EQ(got[0]->resources().size(), many.size());
  for (std::size_t i = 0; i < got[0]->spans().size(); ++i) {
    EXPECT_EQ(got[0]->resources()[got[0]->spans()[i].resource], many[i % many.size()]);
  }
}

TEST_F(BatcherTest, ASpanWithoutResourceIsCounted) {
  emit(nullptr, "n");
  EXPECT_EQ(dropped.value(), 1u);
}

}  // namespace
}  // namespace olly
