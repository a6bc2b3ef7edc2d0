// One connection through Tracker, Stream and whatever parser takes it, for fuzz targets. After
// every step the bytes must add up; at the end nothing may wait and every exchange that began must
// have been finished exactly once.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <set>
#include <utility>

#include "conntrack/tracker.h"

namespace olly::fuzz {

struct Policy : CapturePolicy {
  void skip_until(SocketId, Direction, std::uint64_t) noexcept override {}
  void limit_copy(SocketId, std::uint32_t) noexcept override {}
  void quiet(SocketId) noexcept override {}
  void forget(SocketId) noexcept override {}
};

struct Processes : ProcessLookup {
  ProcessPtr known = std::make_shared<Process>();
  ProcessPtr process(std::uint32_t) noexcept override { return known; }
};

inline void check(bool ok) {
  if (!ok) std::abort();
}

struct Sink : ExchangeSink {
  std::set<Exchange*> open;
  Exchange* begin(const Connection&, Side side, std::uint64_t, const IoMark&) noexcept override {
    if (open.size() % 7 == 6) return nullptr;  // the budget's answer
    auto* x = new Exchange;
    x->side = side;
    open.insert(x);
    return x;
  }
  void request(Exchange& x) noexcept override { check(open.contains(&x)); }
  void finish(Exchange* x) noexcept override {
    check(open.erase(x) == 1);
    delete x;
  }
  void activity(const Connection&, const IoEvent&, Exchange* current) noexcept override {
    check(current == nullptr || open.contains(current));
  }
  void connecting(const ConnectEvent&) noexcept override {}
  void opened(const Connection&) noexcept override {}
  void closed(const Connection&, Nanos) noexcept override {}
};

class Run {
 public:
  // `from`: where the two streams stood when the connection was met.
  explicit Run(std::array<std::uint64_t, 2> from, conntrack::TrackerOptions options = {})
      : tracker_(std::move(options), policy_, processes_, sink_, metrics_), at_(from) {
    OpenEvent open;
    open.sock = 1;
    open.time = now_;
    open.recv_pos = at_[0];
    open.send_pos = at_[1];
    open.local.family = Family::inet;
    tracker_.on_open(open);
  }
  // As a script's first byte says: its high bit = met in its middle.
  static std::array<std::uint64_t, 2> from(std::uint8_t first) {
    return (first & 0x80) != 0 ? std::array<std::uint64_t, 2>{1000, 2000}
                               : std::array<std::uint64_t, 2>{};
  }

  void lose(Direction d, std::uint64_t n) { at_[index(d)] += n; }
  void advance(Nanos wait) {
    tracker_.on_advance(now_ += wait);
    check(tracker_.check_conservation());
  }
  // What is moved from here on is TLS's plaintext.
  void begin_plaintext() {
    plaintext_ = true;
    at_ = {};
  }
  // `unseen` bytes more were moved than captured. Nothing moved: the end of the stream.
  void call(Direction d, ByteView payload, std::uint32_t unseen = 0, bool overlap = false,
            Nanos wait = 100 * kMicrosecond) {
    std::uint64_t& position = at_[index(d)];
    IoEvent io;
    io.sock = 1;
    io.time = now_ += wait;
    io.direction = d;
    io.position = overlap && position > 3 ? position - 3 : position;
    io.payload = payload;
    io.length = static_cast<std::uint32_t>(payload.size()) + unseen;
    io.overlap = overlap;
    io.plaintext = plaintext_;
    io.eof = io.length == 0;
    position = std::max(position, io.position + io.length);
    tracker_.on_io(io);
    check(tracker_.check_conservation());
  }
  // Low bit: direction. 6 of 6: `lost` bytes were lost before it. 8: it overlaps. 0x30 of 0x30:
  // five bytes more were moved than captured. 0x40: time passes.
  void step(std::uint8_t control, std::uint8_t lost, ByteView payload) {
    const Direction d = (control & 1) != 0 ? Direction::send : Direction::recv;
    if ((control & 6) == 6) lose(d, lost);
    call(d, payload, (control & 0x30) == 0x30 ? 5 : 0, (control & 8) != 0);
    if ((control & 0x40) != 0) advance(3 * kMillisecond);
  }

  void close() {
    CloseEvent close;
    close.sock = 1;
    close.time = now_ + kSecond;
    close.recv_pos = at_[0] + 10;
    close.send_pos = at_[1];
    close.positions_known = true;
    tracker_.on_close(close);
    check(tracker_.check_conservation());
    check(tracker_.bytes(Direction::recv).pending() == 0 &&
          tracker_.bytes(Direction::send).pending() == 0);
    check(sink_.open.empty());
  }

 private:
  Policy policy_;
  Processes processes_;
  Sink sink_;
  MetricRegistry metrics_;
  conntrack::Tracker tracker_;
  Nanos now_ = kSecond;
  std::array<std::uint64_t, 2> at_;
  bool plaintext_ = false;
};

// Steps as a script: per step one control byte (see Run::step) and a length, then payload.
inline void steps(Run& run, const std::uint8_t* data, std::size_t size) {
  while (size >= 2) {
    const std::size_t length = std::min<std::size_t>(data[1], size - 2);
    run.step(data[0], data[1], {data + 2, length});
    data += 2 + length;
    size -= 2 + length;
  }
}

// A whole connection as a script.
inline void play(const std::uint8_t* data, std::size_t size) {
  Run run(Run::from(size > 0 ? data[0] : 0));
  steps(run, data, size);
  run.close();
}

}  // namespace olly::fuzz
