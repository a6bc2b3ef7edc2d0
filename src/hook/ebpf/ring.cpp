#include "hook/ebpf/ring.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "event/abi.h"
#include "hook/ebpf/decode.h"
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

Ring::Ring(std::uint64_t* consumer, const std::uint64_t* producer, const std::uint8_t* data,
           std::uint64_t size) noexcept
    : consumer_(consumer),
      producer_(producer),
      data_(data),
      size_(size),
      position_(load_acquire(consumer)),
      released_(position_) {}

ByteView Ring::peek() noexcept {
  for (;;) {
    if (position_ >= producer_seen_) {
      producer_seen_ = load_acquire(producer_);
      if (position_ >= producer_seen_) return {};
    }
    const std::uint64_t offset = position_ & (size_ - 1);
    const auto* header = reinterpret_cast<const std::uint32_t*>(data_ + offset);
    const std::uint32_t word = load_acquire(header);
    if ((word & kBusy) != 0) return {};
    const std::uint64_t length = word & ~(kBusy | kDiscard);
    const std::uint64_t whole = (length + kHeader + 7) & ~std::uint64_t{7};
    if (length > kMaxRecord || whole > producer_seen_ - position_) {
      // Nothing behind it can be found any more.
      ++bad_;
      position_ = producer_seen_;
      release();
      return {};
    }
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
}

void Ring::pop() noexcept {
  position_ += current_;
  current_ = 0;
}

void Ring::release() noexcept {
  if (released_ == position_) return;
  released_ = position_;
  __atomic_store_n(consumer_, position_, __ATOMIC_RELEASE);
}

bool Ring::empty() const noexcept { return position_ >= load_acquire(producer_); }

std::uint64_t Ring::pending() const noexcept { return load_acquire(producer_) - released_; }

std::size_t RingMerger::drain(Nanos horizon, std::size_t max_records, EventSink& sink) noexcept {
  fill_ = 0;
  for (const Ring& ring : rings_) {
    fill_ = std::max(fill_, static_cast<unsigned>(ring.pending() * 256 / ring.size()));
  }
  std::size_t count = 0;
  while (count < max_records) {
    Ring* oldest = nullptr;
    ByteView record;
    Nanos time = 0;
    for (Ring& ring : rings_) {
      const ByteView candidate = ring.peek();
      if (candidate.empty()) continue;
      Nanos at = 0;  // a record too short for a time stamp goes first, and is refused
      if (candidate.size() >= sizeof(olly_record)) {
        at = reinterpret_cast<const olly_record*>(candidate.data())->time_ns;
      }
      if (at > horizon || (oldest != nullptr && at >= time)) continue;
      oldest = &ring;
      record = candidate;
      time = at;
    }
    if (oldest == nullptr) break;
    if (time < last_) {
      ++late_;
      time = last_;
    }
    last_ = time;
    if (decode_record(record, time, sink)) {
      const auto type = reinterpret_cast<const olly_record*>(record.data())->type;
      ++by_type_[std::min<std::size_t>(type, kTypes - 1)];
    } else {
      ++malformed_;
    }
    oldest->pop();
    ++count;
    if (oldest->unreleased() >= kReleaseEvery) oldest->release();
  }
  for (Ring& ring : rings_) ring.release();
  return count;
}

bool RingMerger::empty() const noexcept {
  return std::all_of(rings_.begin(), rings_.end(), [](const Ring& r) { return r.empty(); });
}

std::uint64_t RingMerger::bad_records() const noexcept {
  std::uint64_t sum = malformed_;
  for (const Ring& ring : rings_) sum += ring.bad_records();
  return sum;
}

}  // namespace olly
