// Reading what the kernel programs write: BPF ring buffers and lanes (struct olly_lane), through
// their mapped pages, several at once, merged by time stamp.
//
// Layout of a ring buffer (kernel/bpf/ringbuf.c): consumer position, producer position, then the
// data; each record is 8-aligned behind a header of two 32-bit words: length with busy (bit 31) and
// discard (bit 30) bits, and a page offset. Positions grow for ever and are taken modulo the data
// size, a power of two.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "event/event.h"

struct olly_lane;

namespace olly {

// Records of one producer, oldest first. The memory belongs to somebody else and outlives it.
class RecordSource {
 public:
  virtual ~RecordSource() = default;
  // The oldest record, or nothing: empty, or still being written. Valid until pop() and release().
  // What cannot be right (bad_records) empties the source.
  virtual ByteView peek() noexcept = 0;
  void pop() noexcept {
    position_ += current_;
    current_ = 0;
  }
  // Gives the space of popped records back to the kernel.
  void release() noexcept;

  bool empty() const noexcept;
  std::uint64_t pending() const noexcept;  // bytes, popped but not released ones included
  std::uint64_t unreleased() const noexcept { return position_ - released_; }
  std::uint64_t size() const noexcept { return size_; }
  std::uint64_t bad_records() const noexcept { return bad_; }

 protected:
  RecordSource(std::uint64_t* consumer, const std::uint64_t* producer, const std::uint8_t* data,
               std::uint64_t size) noexcept;
  // Whether there is anything to look at.
  bool more() noexcept;
  // Nothing behind the position can be found any more.
  ByteView give_up() noexcept;

  std::uint64_t* consumer_;
  const std::uint64_t* producer_;
  const std::uint8_t* data_;
  std::uint64_t size_;
  std::uint64_t position_;  // of the next record
  std::uint64_t released_;  // what the kernel knows
  std::uint64_t producer_seen_ = 0;
  std::uint64_t current_ = 0;  // whole length of the record that peek() showed

 private:
  std::uint64_t bad_ = 0;
};

// The data is mapped once only (a second mapping counts twice as resident memory): the one record
// that wraps is copied.
class Ring final : public RecordSource {
 public:
  Ring(std::uint64_t* consumer, const std::uint64_t* producer, const std::uint8_t* data,
       std::uint64_t size) noexcept
      : RecordSource(consumer, producer, data, size) {}
  ByteView peek() noexcept override;

 private:
  std::vector<std::uint64_t> wrapped_;
};

class Lane final : public RecordSource {
 public:
  // `size`: of the data, a power of two.
  Lane(olly_lane* lane, std::uint64_t size) noexcept;
  ByteView peek() noexcept override;
};

// Hands records of several sources on in the order of their time stamps, those of one moment in
// the order of the sources. A time stamp that lies
// before one already handed on (a softirq's record that overtook, a producer that was held up for
// longer than the horizon) is raised to it: time never goes back for the sink.
class RingMerger {
 public:
  void add(std::unique_ptr<RecordSource> source) { sources_.push_back(std::move(source)); }
  // All records with a time stamp up to `horizon`, at most `max_records`. Returns how many.
  std::size_t drain(Nanos horizon, std::size_t max_records, EventSink& sink) noexcept;
  bool empty() const noexcept;
  std::uint64_t bad_records() const noexcept;
  std::uint64_t late_records() const noexcept { return late_; }
  // Largest share of a source that was in use at the last drain, in 1/256.
  unsigned fill() const noexcept { return fill_; }
  Nanos last_time() const noexcept { return last_; }
  void advance_to(Nanos time) noexcept { last_ = last_ < time ? time : last_; }

  static constexpr std::size_t kTypes = 16;
  std::uint64_t count_of_type(std::size_t type) const noexcept { return by_type_[type]; }

 private:
  // A source that has something to hand on in the drain that goes on.
  struct Front {
    RecordSource* source;
    ByteView record;
    Nanos time;
  };
  static bool look(Front& front, Nanos horizon) noexcept;

  std::vector<std::unique_ptr<RecordSource>> sources_;
  std::vector<Front> fronts_;
  Nanos last_ = 0;
  std::uint64_t late_ = 0;
  std::uint64_t malformed_ = 0;
  unsigned fill_ = 0;
  std::uint64_t by_type_[kTypes] = {};
};

}  // namespace olly
