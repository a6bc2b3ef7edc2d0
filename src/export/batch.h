// What travels from the pipeline to the destinations: batches of finished telemetry, immutable once
// sealed and shared by all destinations, so that a second destination costs no second copy.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/time.h"
#include "metrics/registry.h"
#include "traces/span.h"

namespace olly {

// One span in a batch. Texts are ranges of the batch's text; an attribute's text_offset counts from
// text_base, so that a span's attributes are copied as they are.
struct BatchSpan {
  struct Range {
    std::uint32_t offset = 0;
    std::uint32_t size = 0;
  };
  TraceId trace_id;
  SpanId span_id;
  SpanId parent_id;
  Nanos start_unix = 0;
  Nanos end_unix = 0;
  std::uint32_t flags = 0;
  SpanKind kind = SpanKind::internal;
  StatusCode status = StatusCode::unset;
  std::uint32_t resource = 0;  // index in SpanBatch::resources()
  std::uint32_t first_attribute = 0;
  std::uint32_t attribute_count = 0;
  std::uint32_t text_base = 0;  // the span's whole text: [text_base, text_end)
  std::uint32_t text_end = 0;
  Range name;
  Range status_message;
  Range trace_state;
};

class SpanBatch {
 public:
  std::span<const BatchSpan> spans() const noexcept { return spans_; }
  std::span<const ResourcePtr> resources() const noexcept { return resources_; }
  std::span<const Attribute> attributes(const BatchSpan& s) const noexcept {
    return {attributes_.data() + s.first_attribute, s.attribute_count};
  }
  std::string_view string(const BatchSpan& s, const Attribute& a) const noexcept {
    return {text_.data() + s.text_base + a.text_offset, a.text_size};
  }
  std::string_view text(BatchSpan::Range r) const noexcept {
    return {text_.data() + r.offset, r.size};
  }
  // Everything the span's strings can point to: lets an encoder check all of them at once.
  std::string_view all_text(const BatchSpan& s) const noexcept {
    return {text_.data() + s.text_base, s.text_end - s.text_base};
  }
  // What the batch weighs in a queue.
  std::size_t bytes() const noexcept {
    return spans_.size() * sizeof(BatchSpan) + attributes_.size() * sizeof(Attribute) +
           text_.size() + resources_.size() * sizeof(ResourcePtr);
  }
  bool empty() const noexcept { return spans_.empty(); }

 private:
  friend class Batcher;
  void add(const Span& span, std::uint32_t resource);
  void clear() noexcept;
  std::size_t capacity() const noexcept;

  std::vector<BatchSpan> spans_;
  std::vector<Attribute> attributes_;
  std::string text_;
  std::vector<ResourcePtr> resources_;
};

// The agent's own metrics at one moment: cumulative sums (since start_unix) and gauges.
struct MetricBatch {
  struct Metric {
    std::string name;
    std::string description;
    std::string unit;
    bool is_sum = false;  // monotonic, cumulative; else a gauge
    std::uint32_t first_point = 0;
    std::uint32_t point_count = 0;
  };
  struct Point {
    MetricLabels labels;
    double value = 0;
    bool whole = true;  // an integer for OTLP
  };
  ResourcePtr resource;
  Nanos start_unix = 0;
  Nanos time_unix = 0;
  std::vector<Metric> metrics;
  std::vector<Point> points;
  std::size_t bytes() const noexcept;
};

std::shared_ptr<const MetricBatch> collect_metrics(MetricRegistry& registry, ResourcePtr resource,
                                                   Nanos start_unix, Nanos time_unix);

// One piece of work for a destination: exactly one of the two is set.
struct ExportItem {
  std::shared_ptr<const SpanBatch> spans;
  std::shared_ptr<const MetricBatch> metrics;
  std::size_t bytes() const noexcept {
    return spans ? spans->bytes() : metrics ? metrics->bytes() : 0;
  }
  std::size_t span_count() const noexcept { return spans ? spans->spans().size() : 0; }
  std::size_t point_count() const noexcept { return metrics ? metrics->points.size() : 0; }
};

// Collects spans on the pipeline thread. A batch leaves when it is one second old (as told by
// advance) or full. Batches return to a small pool when the last destination has let go of them, so
// a steady stream allocates nothing per span.
class Batcher : public SpanSink {
 public:
  static constexpr std::size_t kMaxSpans = 2048;
  static constexpr std::size_t kMaxBytes = 512 * 1024;
  static constexpr Nanos kMaxAge = kSecond;
  // A span bigger than this loses nothing but is a batch of its own; past kMaxSpanBytes it is
  // dropped (offsets are 32 bits).
  static constexpr std::size_t kMaxSpanBytes = 64 * 1024 * 1024;

  using Deliver = std::function<void(std::shared_ptr<const SpanBatch>)>;
  // `deliver` is called on the pipeline thread and must not block. `dropped` counts spans for which
  // there was no memory.
  Batcher(Deliver deliver, Counter& dropped);
  ~Batcher() override;

  void emit(const Span& span) noexcept override;
  // `now`: CLOCK_MONOTONIC. To be called at least every few 100 ms while spans may be waiting.
  void advance(Nanos now) noexcept;
  void flush() noexcept;

 private:
  struct Pool;
  std::uint32_t resource_index(const ResourcePtr& resource);
  void rehash(std::size_t slots);
  void open();

  Deliver deliver_;
  Counter& dropped_;
  std::shared_ptr<Pool> pool_;
  std::unique_ptr<SpanBatch> current_;
  Nanos now_ = 0;
  Nanos opened_ = 0;
  // Open-addressing index over current_->resources_: slot = index + 1, 0 = empty.
  std::vector<std::uint32_t> slots_;
  const Resource* last_resource_ = nullptr;
  std::uint32_t last_index_ = 0;
};

}  // namespace olly
