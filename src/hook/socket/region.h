// The shared memory of one program that runs with libolly.so, as the agent reads it. Layout and who
// writes what: event/preload_abi.h.
//
// The program may write anything anywhere at any time: what is looked at is copied first, positions
// and sizes are checked against the geometry that was fixed when the region came, and a ring whose
// numbers cannot be right is read on from where its writer claims to be, and counted.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/time.h"
#include "event/preload_abi.h"

namespace olly::preload {

class Region {
 public:
  // Refuses (unsupported, with what is wrong) what could ever make a read fault or block: memory
  // that can shrink, that is not of tmpfs, or whose geometry does not fit its size.
  static Result<std::unique_ptr<Region>> take(const UniqueFd& fd);
  ~Region();
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  std::uint32_t slots() const noexcept { return slots_; }
  std::uint64_t ring_bytes() const noexcept { return ring_bytes_; }
  std::uint32_t used_slots() const noexcept;  // at most slots()
  olly_preload_slot& slot(std::uint32_t i) const noexcept;
  const std::uint8_t* ring(std::uint32_t i) const noexcept;
  std::span<olly_policy> policies() const noexcept;

  // What the agent says.
  void beat(Nanos now) noexcept;
  void set_quiet(bool quiet) noexcept;
  void set_copy(std::uint32_t most) noexcept;
  // Header injection by these rules; none: no injection.
  void set_rules(std::span<const olly_inject_rule> rules) noexcept;
  // What stands there counts from now on: a program may wait for it.
  void tell() noexcept;
  void detach() noexcept;
  std::uint32_t* sleep_word() const noexcept { return &header().reader_sleeps; }
  // What the program counts; never less than before, whatever it writes.
  std::uint64_t drops(olly_preload_drop why) noexcept;
  std::uint64_t refused(olly_inject_refusal why) noexcept;

 private:
  Region() = default;
  olly_preload_header& header() const noexcept {
    return *reinterpret_cast<olly_preload_header*>(memory_);
  }

  std::uint8_t* memory_ = nullptr;
  std::uint64_t size_ = 0;
  std::uint64_t slots_at_ = 0;
  std::uint64_t rings_at_ = 0;
  std::uint64_t ring_bytes_ = 0;
  std::uint32_t slots_ = 0;
  std::uint32_t policies_ = 0;
  std::uint64_t drops_[OLLY_PRELOAD_DROPS] = {};
  std::uint64_t refused_[OLLY_REFUSALS] = {};
};

// The consumer's end of one slot.
class SlotReader {
 public:
  SlotReader(const Region& region, std::uint32_t slot) noexcept;

  // A copy of the oldest record, whole and of a type that a program may send; empty: there is none.
  // The same one until pop().
  ByteView peek() noexcept;
  Nanos time() const noexcept { return time_; }  // of what peek() gave
  void pop() noexcept;
  // Gives the space of popped records back to the thread.
  void release() noexcept;
  std::uint64_t unreleased() const noexcept { return tail_ - released_; }
  std::uint64_t pending() const noexcept;
  std::uint64_t bad() const noexcept { return bad_; }

 private:
  bool check(const olly_record& head, std::uint64_t available, std::uint64_t rest) const noexcept;
  void resync(std::uint64_t head) noexcept;

  olly_preload_slot* slot_;
  const std::uint8_t* ring_;
  std::uint64_t size_;
  std::uint64_t tail_ = 0;
  std::uint64_t released_ = 0;
  std::uint64_t bad_ = 0;
  std::uint32_t current_ = 0;  // bytes of the record in copy_; 0 = none
  Nanos time_ = 0;
  std::vector<std::uint64_t> copy_;
};

}  // namespace olly::preload
