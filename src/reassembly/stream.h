// One direction of a connection, put together by byte position.
//
// The reader (a handler, below) sees contiguous bytes only: when a call's bytes continue the stream
// and nothing waits, it gets the event's own memory; only an incomplete rest is copied and kept.
// Calls that overtook each other are held for a moment (kHoldTime of event time, kMaxHeld calls,
// kMaxHeldBytes), then what is missing is declared a gap. A skip that the reader asked for is
// exact, whether its bytes come as events, are cut by the capture limit, or never come because the
// kernel leaves them out: the next event's position, or the close, settles them.
//
// An idle Stream is 48 bytes. Not thread safe; never throws on captured bytes.
//
// Handler:
//   ReadResult read(const Window&)        what to do with the bytes; may be called with none after
//   a skip void skipped(uint64_t n, const IoMark&)   n bytes of a skip were moved then void
//   gap(uint64_t position, uint64_t length)   those bytes will never come (length 0: certainty
//   lost)
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "protocol/exchange.h"
#include "reassembly/ledger.h"

namespace olly::reassembly {

inline constexpr std::uint64_t kToTheEnd = ~std::uint64_t{0};
inline constexpr std::size_t kMaxMarks = 16;
inline constexpr std::size_t kMaxHeld = 16;
inline constexpr std::size_t kMaxHeldBytes = 256 * 1024;
// More than any parser waits for (an HTTP head is 64 KiB at most).
inline constexpr std::size_t kMaxPending = 128 * 1024;
// Of memory for what waits, kept while nothing does.
inline constexpr std::size_t kKeptWaiting = 1024;
inline constexpr Nanos kHoldTime = 2 * kMillisecond;

// The bytes from `begin` to the next range's begin were moved by one call.
struct MarkRange {
  std::uint64_t begin = 0;
  IoMark mark;
};

// Contiguous bytes and who moved them. Valid during the call.
struct Window {
  std::uint64_t position = 0;  // of bytes[0]
  ByteView bytes;
  std::span<const MarkRange> marks;  // never empty

  const IoMark& mark_at(std::uint64_t at) const noexcept {
    std::size_t i = marks.size() - 1;
    while (i > 0 && marks[i].begin > at) --i;
    return marks[i].mark;
  }
  const IoMark& last_mark() const noexcept { return marks.back().mark; }
  bool call_begins_at(std::uint64_t at) const noexcept {
    return std::any_of(marks.begin(), marks.end(),
                       [at](const MarkRange& m) { return m.begin == at; });
  }
};

struct ReadResult {
  std::size_t consumed = 0;
  Fate fate = Fate::parsed;  // of the consumed bytes
  std::uint64_t skip = 0;    // behind them: needs not be read (kToTheEnd: nothing more ever)
  bool again = false;        // call again at once (else: wait for more bytes)
};

// What one call moved. payload[0] is the byte at payload_position.
struct Segment {
  std::uint64_t position = 0;
  std::uint64_t length = 0;
  std::uint64_t payload_position = 0;
  ByteView payload;
  IoMark mark;
  std::uint64_t end() const noexcept { return position + length; }
};

class Stream {
 public:
  void begin(std::uint64_t position) noexcept { base_ = next_ = end_ = position; }

  std::uint64_t base() const noexcept { return base_; }
  // Bytes moved so far, as far as is known.
  std::uint64_t end() const noexcept { return end_; }
  std::uint64_t pending() const noexcept { return end_ - next_; }
  // Bytes before it need not be read; 0 or less than end() = nothing is skipped.
  std::uint64_t skip_until() const noexcept { return skip_until_; }
  // Nothing of it was read or passed over.
  bool untouched() const noexcept { return next_ == base_; }
  bool holding() const noexcept { return wait_ && !wait_->held.empty(); }
  bool buffering() const noexcept { return wait_ && !wait_->bytes.empty(); }
  Nanos held_since() const noexcept { return holding() ? wait_->held_since : 0; }
  std::size_t memory() const noexcept { return wait_ ? wait_->memory() : 0; }

  // seen = settled + pending, and what waits is where it is said to be.
  bool conserved() const noexcept {
    const bool sum = end_ - base_ == settled_ + pending();
    return sum && (holding() || tail() == end_);
  }

  template <class Handler>
  void offer(const Segment& segment, ByteLedger& ledger, Handler& handler) {
    note_end(segment.end(), ledger);
    if (segment.end() <= tail()) return;  // moved before: an overlap's second half
    if (segment.position > tail()) {
      skip_missing(segment.position, ledger, handler);
      if (segment.position > tail()) {
        hold(segment);
        if (wait_->held.size() > kMaxHeld || wait_->held_bytes > kMaxHeldBytes) {
          release(ledger, handler);
        }
        return;
      }
    }
    feed(segment, ledger, handler);
    feed_held(ledger, handler);
  }

  // What is missing before the held calls is a gap; they are read.
  template <class Handler>
  void release(ByteLedger& ledger, Handler& handler) {
    while (holding()) {
      const std::uint64_t to = wait_->held.front().segment.position;
      if (to > tail()) declare_gap(to, ledger, handler);
      feed_held(ledger, handler);
    }
  }

  // Reads what waits once more: the other direction has moved on.
  template <class Handler>
  void retry(ByteLedger& ledger, Handler& handler) {
    if (!buffering()) return;
    pump_pending(ledger, handler);
  }

  // The close says how far the stream went.
  template <class Handler>
  void finish_at(std::uint64_t final_position, const IoMark& mark, ByteLedger& ledger,
                 Handler& handler) {
    release(ledger, handler);
    if (final_position <= end_) return;
    note_end(final_position, ledger);
    skip_missing(final_position, ledger, handler, &mark);
    if (tail() < final_position) declare_gap(final_position, ledger, handler);
  }

  // Everything that waits gets this fate, and its memory goes.
  void abandon(Fate fate, ByteLedger& ledger) noexcept {
    settle(end_ - next_, fate, ledger);
    next_ = end_;
    skip_until_ = 0;
    wait_.reset();
  }

  // Whoever asked for a skip was wrong: what comes is read.
  void end_skip() noexcept { skip_until_ = 0; }

  // For a connection nobody reads: counts and forgets.
  void pass(std::uint64_t end, Fate fate, ByteLedger& ledger) noexcept {
    note_end(end, ledger);
    abandon(fate, ledger);
  }

 private:
  struct Held {
    Segment segment;  // payload points into bytes
    std::vector<std::uint8_t> bytes;
  };
  struct Waiting {
    std::vector<std::uint8_t> bytes;  // contiguous from next_
    std::vector<MarkRange> marks;     // of bytes
    std::vector<Held> held;           // by position; the first lies behind a hole
    std::size_t held_bytes = 0;
    Nanos held_since = 0;
    std::size_t memory() const noexcept {
      return sizeof *this + bytes.capacity() + marks.capacity() * sizeof(MarkRange) + held_bytes +
             held.size() * sizeof(Held);
    }
  };

  std::uint64_t tail() const noexcept { return next_ + (wait_ ? wait_->bytes.size() : 0); }
  Waiting& waiting() {
    if (!wait_) wait_ = std::make_unique<Waiting>();
    return *wait_;
  }

  void note_end(std::uint64_t end, ByteLedger& ledger) noexcept {
    if (end <= end_) return;
    ledger.seen += end - end_;
    end_ = end;
  }
  void settle(std::uint64_t n, Fate fate, ByteLedger& ledger) noexcept {
    settled_ += n;
    ledger.fates[static_cast<std::size_t>(fate)] += n;
  }

  template <class Handler>
  void declare_gap(std::uint64_t to, ByteLedger& ledger, Handler& handler) {
    // The rest of a message that will never be whole.
    const std::uint64_t from = tail();
    settle(from - next_, Fate::unparsed, ledger);
    if (wait_) wait_->bytes.clear(), wait_->marks.clear();
    settle(to - from, Fate::gap, ledger);
    next_ = to;
    skip_until_ = 0;
    handler.gap(from, to - from);
  }

  // Bytes up to `to` made no event: as far as a skip reaches, that is fine.
  template <class Handler>
  void skip_missing(std::uint64_t to, ByteLedger& ledger, Handler& handler,
                    const IoMark* mark = nullptr) {
    while (skip_until_ > next_ && next_ < to) {
      const std::uint64_t until = std::min(skip_until_, to);
      const std::uint64_t n = until - next_;
      settle(n, Fate::skipped, ledger);
      next_ = until;
      if (mark) handler.skipped(n, *mark);
      if (next_ < skip_until_) return;
      const MarkRange none{next_, mark ? *mark : IoMark{}};
      pump({next_, {}, {&none, 1}}, ledger, handler);
    }
  }

  // Hands on the window until the reader wants more than there is; returns what is left of it.
  template <class Handler>
  ByteView pump(Window window, ByteLedger& ledger, Handler& handler) {
    for (;;) {
      if (skip_until_ > next_) {
        const std::uint64_t n = std::min<std::uint64_t>(skip_until_ - next_, window.bytes.size());
        if (n > 0) {
          handler.skipped(n, window.mark_at(window.position + n - 1));
          advance(window, n, Fate::skipped, ledger);
        }
        if (skip_until_ > next_) return {};
      }
      const ReadResult r = handler.read(window);
      advance(window, std::min(r.consumed, window.bytes.size()), r.fate, ledger);
      if (r.skip > 0) {
        skip_until_ = r.skip > kToTheEnd - next_ ? kToTheEnd : next_ + r.skip;
        continue;
      }
      if (!r.again) return window.bytes;
    }
  }
  void advance(Window& window, std::uint64_t n, Fate fate, ByteLedger& ledger) noexcept {
    settle(n, fate, ledger);
    next_ += n;
    window.position += n;
    window.bytes = window.bytes.subspan(n);
  }

  // segment.position <= tail() < segment.end()
  template <class Handler>
  void feed(const Segment& s, ByteLedger& ledger, Handler& handler) {
    const std::uint64_t captured_end = std::min(s.payload_position + s.payload.size(), s.end());
    if (!s.payload.empty() && captured_end > tail()) {
      if (s.payload_position > tail()) pass_missing(s, s.payload_position, ledger, handler);
      const ByteView bytes = s.payload.subspan(tail() - s.payload_position, captured_end - tail());
      const MarkRange mark{std::max(tail(), s.position), s.mark};
      if (!buffering()) {
        const ByteView rest = pump({next_, bytes, {&mark, 1}}, ledger, handler);
        if (!rest.empty()) keep(rest, mark);
      } else {
        append(bytes, mark);
        pump_pending(ledger, handler);
      }
      if (buffering() && wait_->bytes.size() > kMaxPending) declare_gap(tail(), ledger, handler);
    }
    if (tail() < s.end()) pass_missing(s, s.end(), ledger, handler);
  }

  // This call moved bytes up to `to` that were not captured.
  template <class Handler>
  void pass_missing(const Segment& s, std::uint64_t to, ByteLedger& ledger, Handler& handler) {
    skip_missing(to, ledger, handler, &s.mark);
    if (tail() < to) declare_gap(to, ledger, handler);
  }

  void keep(ByteView rest, const MarkRange& mark) {
    Waiting& w = waiting();
    w.bytes.assign(rest.begin(), rest.end());
    w.marks.assign(1, mark);
  }
  void append(ByteView bytes, const MarkRange& mark) {
    Waiting& w = waiting();
    w.bytes.insert(w.bytes.end(), bytes.begin(), bytes.end());
    // The first and the last mark stay exact; those between may be merged.
    if (w.marks.size() < kMaxMarks)
      w.marks.push_back(mark);
    else
      w.marks.back().mark = mark.mark;
  }

  template <class Handler>
  void pump_pending(ByteLedger& ledger, Handler& handler) {
    // The reader may look at the bytes while they stay where they are: moved only afterwards.
    std::unique_ptr<Waiting> w = std::move(wait_);
    const std::size_t before = w->bytes.size();
    const ByteView rest = pump({next_, w->bytes, w->marks}, ledger, handler);
    const std::size_t used = before - rest.size();
    w->bytes.erase(w->bytes.begin(), w->bytes.begin() + static_cast<std::ptrdiff_t>(used));
    if (w->bytes.empty()) {
      w->marks.clear();
    } else {
      while (w->marks.size() > 1 && w->marks[1].begin <= next_) w->marks.erase(w->marks.begin());
    }
    // Who reads headers and bodies in turn needs it again at once: a little is kept.
    if (!w->bytes.empty() || !w->held.empty() || w->memory() <= kKeptWaiting) wait_ = std::move(w);
  }

  void hold(const Segment& s) {
    Waiting& w = waiting();
    if (w.held.empty()) w.held_since = s.mark.time;
    Held held{s, {s.payload.begin(), s.payload.end()}};
    held.segment.payload = held.bytes;
    w.held_bytes += held.bytes.size();
    auto at =
        std::upper_bound(w.held.begin(), w.held.end(), s.position,
                         [](std::uint64_t p, const Held& h) { return p < h.segment.position; });
    w.held.insert(at, std::move(held));
  }

  template <class Handler>
  void feed_held(ByteLedger& ledger, Handler& handler) {
    while (holding()) {
      if (wait_->held.front().segment.position > tail()) {
        skip_missing(wait_->held.front().segment.position, ledger, handler);
        if (!holding() || wait_->held.front().segment.position > tail()) return;
      }
      Held held = std::move(wait_->held.front());
      wait_->held.erase(wait_->held.begin());
      wait_->held_bytes -= held.bytes.size();
      held.segment.payload = held.bytes;
      if (wait_->held.empty() && wait_->bytes.empty()) wait_.reset();
      if (held.segment.end() > tail()) feed(held.segment, ledger, handler);
    }
  }

  std::uint64_t base_ = 0;
  std::uint64_t next_ = 0;  // everything before it has its fate
  std::uint64_t end_ = 0;
  std::uint64_t settled_ = 0;
  std::uint64_t skip_until_ = 0;
  std::unique_ptr<Waiting> wait_;
};

}  // namespace olly::reassembly
