#include "hook/ebpf/ring.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "event/abi.h"
#include "hook/decode.h"
#include "hook/ebpf/kernel_abi.h"

namespace olly {
namespace {

constexpr std::uint32_t kBusy = 1u << 31;
constexpr std::uint32_t kDiscard = 1u << 30;
constexpr std::uint64_t kHeader = 8;
constexpr std::uint64_t kMaxRecord = sizeof(olly_io_record) + OLLY_MAX_COPY;
constexpr std::uint64_t kReleaseEvery = 128 * 1024;

template <class T>
T load_acquire(const T* p) noexcept {
  return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

}  // namespace

RecordSource::RecordSource(std::uint64_t* consumer, const std::uint64_t* producer,
                           const std::uint8_t* data, std::uint64_t size) noexcept
    : consumer_(consumer),
      producer_(producer),
      data_(data),
      size_(size),
      position_(load_acquire(consumer)),
      released_(position_) {}

bool RecordSource::more() noexcept {
  if (position_ < producer_seen_) return true;
  producer_seen_ = load_acquire(producer_);
  return position_ < producer_seen_;
}

ByteView RecordSource::give_up() noexcept {
  ++bad_;
  position_ = producer_seen_;
  release();
  return {};
}

void RecordSource::release() noexcept {
  if (released_ == position_) return;
  released_ = position_;
  __atomic_store_n(consumer_, position_, __ATOMIC_RELEASE);
}

bool RecordSource::empty() const noexcept { return position_ >= load_acquire(producer_); }

std::uint64_t RecordSource::pending() const noexcept { return load_acquire(producer_) - released_; }

ByteView Ring::peek() noexcept {
  while (more()) {
    const std::uint64_t offset = position_ & (size_ - 1);
    const auto* header = reinterpret_cast<const std::uint32_t*>(data_ + offset);
    const std::uint32_t word = load_acquire(header);
    if ((word & kBusy) != 0) return {};
    const std::uint64_t length = word & ~(kBusy | kDiscard);
    const std::uint64_t whole = (length + kHeader + 7) & ~std::uint64_t{7};
    if (length > kMaxRecord || whole > producer_seen_ - position_) return give_up();
    if ((word & kDiscard) != 0) {
      position_ += whole;
      continue;
    }
    current_ = whole;
    const std::uint64_t start = (position_ + kHeader) & (size_ - 1);
    if (start + length <= size_) return {data_ + start, length};
    wrapped_.resize((length + 7) / 8);
    auto* copy = reinterpret_cast<std::uint8_t*>(wrapped_.data());
    std::memcpy(copy, data_ + start, size_ - start);
    std::memcpy(copy + (size_ - start), data_, length - (size_ - start));
    return {copy, length};
  }
  return {};
}

Lane::Lane(olly_lane* lane, std::uint64_t size) noexcept
    : RecordSource(&lane->tail, &lane->head, reinterpret_cast<const std::uint8_t*>(lane + 1),
                   size) {}

ByteView Lane::peek() noexcept {
  if (!more()) return {};
  const std::uint64_t offset = position_ & (size_ - 1);
  const auto* record = reinterpret_cast<const olly_record*>(data_ + offset);
  const std::uint64_t whole = record->size;
  const bool fits = whole <= kMaxRecord && whole <= producer_seen_ - position_;
  if (whole < sizeof(olly_record) || whole % 8 != 0 || !fits) return give_up();
  current_ = whole;
  return {data_ + offset, whole};
}

// Whether the source has a record that is due.
bool RingMerger::look(Front& front, Nanos horizon) noexcept {
  front.record = front.source->peek();
  if (front.record.empty()) return false;
  front.time = 0;  // a record too short for a time stamp goes first, and is refused
  if (front.record.size() >= sizeof(olly_record)) {
    front.time = reinterpret_cast<const olly_record*>(front.record.data())->time_ns;
  }
  return front.time <= horizon;
}

// A source that has nothing due when it is looked at has nothing due in this drain: what comes into
// it now is younger than the horizon.
std::size_t RingMerger::drain(Nanos horizon, std::size_t max_records, EventSink& sink) noexcept {
  fill_ = 0;
  fronts_.clear();
  for (const auto& source : sources_) {
    fill_ = std::max(fill_, static_cast<unsigned>(source->pending() * 256 / source->size()));
    Front front{source.get(), {}, 0};
    if (look(front, horizon)) fronts_.push_back(front);
  }
  std::size_t count = 0;
  while (count < max_records && !fronts_.empty()) {
    Front* oldest = &fronts_.front();
    for (Front& front : fronts_) {
      if (front.time < oldest->time) oldest = &front;
    }
    Nanos time = oldest->time;
    if (time < last_) {
      ++late_;
      time = last_;
    }
    last_ = time;
    if (decode_record(oldest->record, time, sink)) {
      const auto type = reinterpret_cast<const olly_record*>(oldest->record.data())->type;
      ++by_type_[std::min<std::size_t>(type, kTypes - 1)];
    } else {
      ++malformed_;
    }
    RecordSource& source = *oldest->source;
    source.pop();
    ++count;
    if (source.unreleased() >= kReleaseEvery) source.release();
    if (!look(*oldest, horizon)) fronts_.erase(fronts_.begin() + (oldest - fronts_.data()));
  }
  for (const auto& source : sources_) source->release();
  return count;
}

bool RingMerger::empty() const noexcept {
  return std::all_of(sources_.begin(), sources_.end(), [](const auto& s) { return s->empty(); });
}

std::uint64_t RingMerger::bad_records() const noexcept {
  std::uint64_t sum = malformed_;
  for (const auto& source : sources_) sum += source->bad_records();
  return sum;
}

}  // namespace olly
