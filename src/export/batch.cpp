#include "export/batch.h"

#include <algorithm>
#include <mutex>
#include <new>

namespace olly {
namespace {

constexpr std::size_t kPooledBatches = 4;

// A range of the span's own attribute text when `view` lies in it, else a copy behind it.
BatchSpan::Range place(std::string_view view, std::string_view own, std::uint32_t base,
                       std::string& text) {
  if (view.empty()) return {base, 0};
  const auto start = reinterpret_cast<std::uintptr_t>(view.data());
  const auto own_start = reinterpret_cast<std::uintptr_t>(own.data());
  const auto size = static_cast<std::uint32_t>(view.size());
  if (start >= own_start && start + view.size() <= own_start + own.size()) {
    return {base + static_cast<std::uint32_t>(start - own_start), size};
  }
  const auto offset = static_cast<std::uint32_t>(text.size());
  text.append(view);
  return {offset, size};
}

std::size_t weight(const Span& span) noexcept {
  std::size_t bytes =
      sizeof(BatchSpan) + span.name.size() + span.status_message.size() + span.trace_state.size();
  if (span.attributes != nullptr) {
    bytes +=
        span.attributes->all_text().size() + span.attributes->items().size() * sizeof(Attribute);
  }
  return bytes;
}

std::size_t slot_of(const Resource* resource, std::size_t mask) noexcept {
  const auto key = reinterpret_cast<std::uintptr_t>(resource);
  return static_cast<std::size_t>((key >> 4) * 0x9e3779b97f4a7c15ull >> 40) & mask;
}

}  // namespace

void SpanBatch::add(const Span& span, std::uint32_t resource) {
  BatchSpan s;
  s.trace_id = span.trace_id;
  s.span_id = span.span_id;
  s.parent_id = span.parent_id;
  s.start_unix = span.start_unix;
  // A receiver may refuse a span that ends before it starts; stamps of two CPUs can differ by a
  // hair.
  s.end_unix = std::max(span.start_unix, span.end_unix);
  s.flags = span.flags;
  s.kind = span.kind;
  s.status = span.status;
  s.resource = resource;
  s.text_base = static_cast<std::uint32_t>(text_.size());
  std::string_view own;
  if (span.attributes != nullptr) {
    own = span.attributes->all_text();
    text_.append(own);
    const auto items = span.attributes->items();
    s.first_attribute = static_cast<std::uint32_t>(attributes_.size());
    s.attribute_count = static_cast<std::uint32_t>(items.size());
    attributes_.insert(attributes_.end(), items.begin(), items.end());
  }
  s.name = place(span.name, own, s.text_base, text_);
  s.status_message = place(span.status_message, own, s.text_base, text_);
  s.trace_state = place(span.trace_state, own, s.text_base, text_);
  s.text_end = static_cast<std::uint32_t>(text_.size());
  spans_.push_back(s);  // last: out of memory before it leaves no half span
}

void SpanBatch::clear() noexcept {
  spans_.clear();
  attributes_.clear();
  text_.clear();
  resources_.clear();
}

std::size_t SpanBatch::capacity() const noexcept {
  return spans_.capacity() * sizeof(BatchSpan) + attributes_.capacity() * sizeof(Attribute) +
         text_.capacity();
}

std::size_t MetricBatch::bytes() const noexcept {
  std::size_t total =
      sizeof(*this) + metrics.size() * sizeof(Metric) + points.size() * sizeof(Point);
  for (const Metric& m : metrics) total += m.name.size() + m.description.size() + m.unit.size();
  for (const Point& p : points) {
    for (const auto& [key, value] : p.labels) total += key.size() + value.size() + 64;
  }
  return total;
}

std::shared_ptr<const MetricBatch> collect_metrics(MetricRegistry& registry, ResourcePtr resource,
                                                   Nanos start_unix, Nanos time_unix) {
  auto batch = std::make_shared<MetricBatch>();
  batch->resource = std::move(resource);
  batch->start_unix = start_unix;
  batch->time_unix = time_unix;
  registry.visit([&](const MetricRegistry::Sample& sample) {
    if (batch->metrics.empty() || batch->metrics.back().name != sample.name) {
      MetricBatch::Metric& m = batch->metrics.emplace_back();
      m.name = sample.name;
      m.description = sample.help;
      m.unit = sample.unit;
      m.is_sum = sample.is_counter;
      m.first_point = static_cast<std::uint32_t>(batch->points.size());
    }
    batch->points.push_back({*sample.labels, sample.value, sample.whole});
    ++batch->metrics.back().point_count;
  });
  return batch;
}

// Free batches; outlives the Batcher as long as a destination holds one.
struct Batcher::Pool {
  std::mutex mutex;
  std::vector<std::unique_ptr<SpanBatch>> free;

  std::unique_ptr<SpanBatch> take() {
    {
      const std::lock_guard lock(mutex);
      if (!free.empty()) {
        std::unique_ptr<SpanBatch> batch = std::move(free.back());
        free.pop_back();
        return batch;
      }
    }
    return std::make_unique<SpanBatch>();
  }
  void give_back(SpanBatch* batch) noexcept {
    std::unique_ptr<SpanBatch> owned(batch);
    owned->clear();
    const std::lock_guard lock(mutex);
    // reserve() in the constructor: push_back within it does not throw.
    if (free.size() < kPooledBatches && owned->capacity() <= 2 * kMaxBytes) {
      free.push_back(std::move(owned));
    }
  }
};

Batcher::Batcher(Deliver deliver, Counter& dropped)
    : deliver_(std::move(deliver)), dropped_(dropped), pool_(std::make_shared<Pool>()) {
  pool_->free.reserve(kPooledBatches);
}

Batcher::~Batcher() { flush(); }

void Batcher::open() {
  current_ = pool_->take();
  opened_ = now_;
  last_resource_ = nullptr;
  std::fill(slots_.begin(), slots_.end(), 0);
}

void Batcher::rehash(std::size_t slots) {
  slots_.assign(slots, 0);
  const auto& resources = current_->resources_;
  for (std::size_t i = 0; i < resources.size(); ++i) {
    std::size_t slot = slot_of(resources[i].get(), slots - 1);
    while (slots_[slot] != 0) slot = (slot + 1) & (slots - 1);
    slots_[slot] = static_cast<std::uint32_t>(i + 1);
  }
}

std::uint32_t Batcher::resource_index(const ResourcePtr& resource) {
  if (resource.get() == last_resource_) return last_index_;
  auto& resources = current_->resources_;
  if ((resources.size() + 1) * 2 > slots_.size()) rehash(slots_.empty() ? 64 : slots_.size() * 2);
  const std::size_t mask = slots_.size() - 1;
  std::size_t slot = slot_of(resource.get(), mask);
  while (slots_[slot] != 0 && resources[slots_[slot] - 1] != resource) slot = (slot + 1) & mask;
  if (slots_[slot] == 0) {
    resources.push_back(resource);
    slots_[slot] = static_cast<std::uint32_t>(resources.size());
  }
  last_resource_ = resource.get();
  last_index_ = slots_[slot] - 1;
  return last_index_;
}

void Batcher::emit(const Span& span) noexcept {
  const std::size_t size = weight(span);
  try {
    if (size > kMaxSpanBytes || span.resource == nullptr || *span.resource == nullptr) {
      dropped_.add_shared();
      return;
    }
    if (current_ && !current_->empty() && current_->bytes() + size > kMaxBytes) flush();
    if (!current_) open();
    const std::uint32_t resource = resource_index(*span.resource);
    current_->add(span, resource);
  } catch (const std::bad_alloc&) {
    dropped_.add_shared();
    return;
  }
  if (current_->spans_.size() >= kMaxSpans || current_->bytes() >= kMaxBytes) flush();
}

void Batcher::advance(Nanos now) noexcept {
  now_ = now;
  if (current_ && !current_->empty() && now >= opened_ + kMaxAge) flush();
}

void Batcher::flush() noexcept {
  if (!current_ || current_->empty()) return;
  const std::size_t count = current_->spans_.size();
  SpanBatch* batch = current_.release();
  try {
    // The deleter also runs when shared_ptr cannot allocate its control block.
    std::shared_ptr<const SpanBatch> shared(
        batch, [pool = pool_](const SpanBatch* b) { pool->give_back(const_cast<SpanBatch*>(b)); });
    deliver_(std::move(shared));
  } catch (const std::bad_alloc&) {
    dropped_.add_shared(count);
  }
}

}  // namespace olly
