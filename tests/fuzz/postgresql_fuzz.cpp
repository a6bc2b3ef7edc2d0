// Fuzz target: one connection through Tracker, Stream and the PostgreSQL parser. The input is a
// script: per step one control byte (direction, loss, cut capture, time, end) and a length, then
// payload. After every step the bytes must add up, and every exchange that began must be finished
// exactly once.
#include <array>
#include <cstdint>
#include <cstdlib>
#include <set>

#include "conntrack/tracker.h"

namespace {

using namespace olly;

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

void check(bool ok) {
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

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Policy policy;
  Processes processes;
  Sink sink;
  MetricRegistry metrics;
  conntrack::Tracker tracker({}, policy, processes, sink, metrics);
  Nanos now = kSecond;
  std::array<std::uint64_t, 2> at{};
  if (size > 0 && (data[0] & 0x80) != 0) at = {1000, 2000};
  OpenEvent open;
  open.sock = 1;
  open.time = now;
  open.recv_pos = at[0];
  open.send_pos = at[1];
  open.local.family = Family::inet;
  tracker.on_open(open);
  while (size >= 2) {
    const std::uint8_t control = data[0];
    const std::size_t length = std::min<std::size_t>(data[1], size - 2);
    IoEvent io;
    io.sock = 1;
    io.time = now += 100 * kMicrosecond;
    io.direction = (control & 1) != 0 ? Direction::send : Direction::recv;
    std::uint64_t& position = at[control & 1];
    if ((control & 6) == 6) position += data[1];  // lost
    io.position = (control & 8) != 0 && position > 3 ? position - 3 : position;
    io.payload = {data + 2, length};
    io.length = static_cast<std::uint32_t>(length + ((control & 0x30) == 0x30 ? 5 : 0));
    io.overlap = (control & 8) != 0;
    io.eof = length == 0;
    position = std::max(position, io.position + io.length);
    tracker.on_io(io);
    check(tracker.check_conservation());
    if ((control & 0x40) != 0) tracker.on_advance(now += 3 * kMillisecond);
    check(tracker.check_conservation());
    data += 2 + length;
    size -= 2 + length;
  }
  CloseEvent close;
  close.sock = 1;
  close.time = now + kSecond;
  close.recv_pos = at[0] + 10;
  close.send_pos = at[1];
  close.positions_known = true;
  tracker.on_close(close);
  check(tracker.check_conservation());
  check(tracker.bytes(Direction::recv).pending() == 0 &&
        tracker.bytes(Direction::send).pending() == 0);
  check(sink.open.empty());
  return 0;
}
