#include "hook/socket/region.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/futex.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <climits>
#include <cstring>

namespace olly::preload {
namespace {

constexpr std::uint64_t kMaxRegion = 1100ull * 1024 * 1024;
constexpr std::uint32_t kMaxPolicies = 65536;
constexpr std::uint32_t kMaxRecord = sizeof(olly_io_record) + OLLY_PRELOAD_MAX_COPY;

std::unexpected<Error> refuse(std::string what) {
  return fail(ErrorCode::unsupported, std::move(what));
}

template <class T>
T load(const T& from) noexcept {
  return __atomic_load_n(&from, __ATOMIC_ACQUIRE);
}
template <class T>
void store(T& to, T value) noexcept {
  __atomic_store_n(&to, value, __ATOMIC_RELEASE);
}

}  // namespace

Result<std::unique_ptr<Region>> Region::take(const UniqueFd& fd) {
  struct stat status {};
  struct statfs system {};
  if (::fstat(fd.get(), &status) != 0 || ::fstatfs(fd.get(), &system) != 0) {
    return refuse(fmt::format("the region cannot be examined: {}", std::strerror(errno)));
  }
  // Huge pages may be missing when they are touched; other file systems have no seals.
  if (system.f_type != TMPFS_MAGIC) return refuse("the region is no ordinary shared memory");
  const int seals = ::fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) return refuse("the region is not sealed");
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size < OLLY_PRELOAD_HEADER_BYTES || size > kMaxRegion) {
    return refuse(fmt::format("the region has {} bytes", size));
  }
  void* memory =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd.get(), 0);
  if (memory == MAP_FAILED) {
    return refuse(fmt::format("the region cannot be mapped: {}", std::strerror(errno)));
  }
  std::unique_ptr<Region> region(new Region());
  region->memory_ = static_cast<std::uint8_t*>(memory);
  region->size_ = size;
  olly_preload_header head;
  std::memcpy(&head, memory, sizeof head);
  if (head.magic != OLLY_PRELOAD_MAGIC) return refuse("the region is not libolly.so's");
  if (head.version != OLLY_PRELOAD_VERSION) {
    return refuse(fmt::format("libolly.so is of another version: {}, this agent speaks {}",
                              head.version, OLLY_PRELOAD_VERSION));
  }
  const bool sane = head.slots >= 1 && head.slots <= OLLY_PRELOAD_MAX_SLOTS &&
                    std::has_single_bit(head.ring_bytes) &&
                    head.ring_bytes >= OLLY_PRELOAD_RING_SMALLEST &&
                    head.ring_bytes <= OLLY_PRELOAD_RING_LARGEST &&
                    std::has_single_bit(head.policies) && head.policies <= kMaxPolicies;
  if (!sane) return refuse("the region's layout makes no sense");
  region->slots_ = head.slots;
  region->ring_bytes_ = head.ring_bytes;
  region->policies_ = head.policies;
  region->slots_at_ = OLLY_PRELOAD_HEADER_BYTES + head.policies * sizeof(olly_policy);
  region->rings_at_ = region->slots_at_ + head.slots * sizeof(olly_preload_slot);
  if (region->rings_at_ + head.slots * region->ring_bytes_ > size) {
    return refuse("the region is smaller than its layout");
  }
  return region;
}

Region::~Region() {
  if (memory_ != nullptr) ::munmap(memory_, size_);
}

std::uint32_t Region::used_slots() const noexcept {
  return std::min(load(header().used_slots), slots_);
}

olly_preload_slot& Region::slot(std::uint32_t i) const noexcept {
  return reinterpret_cast<olly_preload_slot*>(memory_ + slots_at_)[i];
}

const std::uint8_t* Region::ring(std::uint32_t i) const noexcept {
  return memory_ + rings_at_ + i * ring_bytes_;
}

std::span<olly_policy> Region::policies() const noexcept {
  return {reinterpret_cast<olly_policy*>(memory_ + OLLY_PRELOAD_HEADER_BYTES), policies_};
}

void Region::beat(Nanos now) noexcept { store<olly_u64>(header().beat_ns, now); }
void Region::set_quiet(bool quiet) noexcept { store<olly_u32>(header().quiet, quiet ? 1 : 0); }
void Region::set_copy(std::uint32_t most) noexcept { store<olly_u32>(header().max_copy, most); }
void Region::set_rules(std::span<const olly_inject_rule> rules) noexcept {
  const std::size_t n = std::min<std::size_t>(rules.size(), OLLY_PRELOAD_MAX_RULES);
  if (n > 0) {
    std::memcpy(memory_ + OLLY_PRELOAD_RULES_AT, rules.data(), n * sizeof(olly_inject_rule));
  }
  store<olly_u32>(header().inject, static_cast<olly_u32>(n));
}
void Region::tell() noexcept {
  store<olly_u32>(header().told, 1);
  ::syscall(SYS_futex, &header().told, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}
void Region::detach() noexcept { store<olly_u32>(header().detached, 1); }

std::uint64_t Region::drops(olly_preload_drop why) noexcept {
  drops_[why] = std::max<std::uint64_t>(drops_[why], load(header().drops[why]));
  return drops_[why];
}

std::uint64_t Region::refused(olly_inject_refusal why) noexcept {
  refused_[why] = std::max<std::uint64_t>(refused_[why], load(header().refused[why]));
  return refused_[why];
}

SlotReader::SlotReader(const Region& region, std::uint32_t slot) noexcept
    : slot_(&region.slot(slot)), ring_(region.ring(slot)), size_(region.ring_bytes()) {}

bool SlotReader::check(const olly_record& head, std::uint64_t available,
                       std::uint64_t rest) const noexcept {
  if (head.size < sizeof head || head.size % OLLY_PRELOAD_ALIGN != 0) return false;
  if (head.size > available || head.size > rest) return false;
  return head.type == OLLY_REC_PAD || head.size <= kMaxRecord;
}

void SlotReader::resync(std::uint64_t head) noexcept {
  ++bad_;
  tail_ = head;
  release();
}

ByteView SlotReader::peek() noexcept {
  if (current_ != 0) return {reinterpret_cast<const std::uint8_t*>(copy_.data()), current_};
  for (;;) {
    const std::uint64_t head = load(slot_->head);
    const std::uint64_t available = head - tail_;
    if (available == 0) return {};
    if (available > size_ || available % OLLY_PRELOAD_ALIGN != 0) {
      // Aligned, so that a writer that is right again is understood again.
      resync(head & ~std::uint64_t{OLLY_PRELOAD_ALIGN - 1});
      return {};
    }
    const std::uint64_t at = tail_ & (size_ - 1);
    olly_record record;
    std::memcpy(&record, ring_ + at, sizeof record);
    if (!check(record, available, size_ - at)) {
      resync(head);
      return {};
    }
    if (record.type == OLLY_REC_OPEN || record.type == OLLY_REC_IO ||
        record.type == OLLY_REC_CLOSE || record.type == OLLY_REC_CONNECT ||
        record.type == OLLY_REC_TLS || record.type == OLLY_REC_INJECT) {
      copy_.resize(std::max(copy_.size(), (record.size + sizeof(copy_[0]) - 1) / sizeof(copy_[0])));
      std::memcpy(copy_.data(), ring_ + at, record.size);
      std::memcpy(copy_.data(), &record, sizeof record);  // what was checked is what counts
      current_ = record.size;
      time_ = record.time_ns;
      return {reinterpret_cast<const std::uint8_t*>(copy_.data()), current_};
    }
    if (record.type != OLLY_REC_PAD) ++bad_;
    tail_ += record.size;
  }
}

void SlotReader::pop() noexcept {
  tail_ += current_;
  current_ = 0;
}

void SlotReader::release() noexcept {
  if (released_ == tail_) return;
  released_ = tail_;
  store<olly_u64>(slot_->tail, tail_);
}

std::uint64_t SlotReader::pending() const noexcept {
  return std::min(load(slot_->head) - released_, size_);
}

}  // namespace olly::preload
