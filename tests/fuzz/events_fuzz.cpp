// Fuzz target: events of several sockets and processes in any order, with anything missing, through
// Tracker and Processor: OPEN twice or never, CLOSE before or after the process's exit, calls at
// positions that went back or far ahead, own sockets, lost events. The input is a script of 6-byte
// steps, each with up to 63 bytes of payload behind it. After every step the bytes must add up; at
// the end every exchange has left as a span.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>

#include "conntrack/tracker.h"
#include "traces/processor.h"

namespace {

using namespace olly;

struct Policy : CapturePolicy {
  void skip_until(SocketId, Direction, std::uint64_t) noexcept override {}
  void limit_copy(SocketId, std::uint32_t) noexcept override {}
  void quiet(SocketId) noexcept override {}
  void forget(SocketId) noexcept override {}
};

// Eight processes of all kinds; the first is not observed.
struct Processes : ProcessLookup {
  std::array<ProcessPtr, 8> all;
  Processes() {
    for (std::uint32_t pid = 0; pid < all.size(); ++pid) {
      auto p = std::make_shared<Process>();
      p->pid = pid;
      p->observed = pid != 0;
      p->service = "s";
      p->runtime = static_cast<Runtime>(pid % 4);
      p->resource = std::make_shared<Resource>();
      all[pid] = std::move(p);
    }
  }
  ProcessPtr process(std::uint32_t pid) noexcept override { return all[pid % all.size()]; }
};

struct Spans : SpanSink {
  void emit(const Span& span) noexcept override {
    if (!span.trace_id.valid() || !span.span_id.valid() || span.end_unix < span.start_unix ||
        span.attributes == nullptr || span.resource == nullptr) {
      std::abort();
    }
  }
};

constexpr std::size_t kStep = 6;

struct Run {
  Policy policy;
  Processes processes;
  Spans spans;
  MetricRegistry metrics;
  Processor processor{{}, spans, metrics};
  conntrack::Tracker tracker{options(), policy, processes, processor, metrics};
  Nanos now = kSecond;
  std::array<std::array<std::uint64_t, 2>, 8> at{};  // by socket

  static conntrack::TrackerOptions options() {
    conntrack::TrackerOptions o;
    o.memory = 8 * 1024;  // evictions, too
    return o;
  }

  void open(SocketId sock, std::uint8_t a, std::uint8_t b) {
    OpenEvent e;
    e.time = now;
    e.sock = sock;
    e.role = static_cast<Role>(a % 3);
    e.task.pid = b % 8u;
    e.task.tid = b % 16u;
    e.own = a >= 0xf0;
    e.met = (a & 8) != 0;
    e.local.family = (a & 16) != 0 ? Family::unix_stream : Family::inet;
    e.remote.family = e.local.family;
    if ((a & 32) != 0) e.identity = {1u + (b >> 6), 5u - (b >> 6)};
    e.recv_pos = at[sock % 8][0];
    e.send_pos = at[sock % 8][1];
    tracker.on_open(e);
  }
  void io(SocketId sock, std::uint8_t a, std::uint8_t b, std::uint8_t moved, ByteView payload) {
    IoEvent e;
    e.time = now;
    e.sock = sock;
    e.task.pid = b % 8u;
    e.task.tid = b % 16u;
    e.task.ec = b >> 5;
    e.task.cpu = now / 3;
    e.direction = (a & 1) != 0 ? Direction::send : Direction::recv;
    std::uint64_t& position = at[sock % 8][a & 1];
    if ((a & 6) == 2) position += moved;
    if ((a & 6) == 4) position -= std::min<std::uint64_t>(position, moved);
    e.position = position;
    e.payload = payload;
    e.length = static_cast<std::uint32_t>(payload.size());
    if ((a & 24) == 8) e.length += moved;
    if ((a & 24) == 16 && !payload.empty()) e.payload_offset = moved, e.length += moved;
    e.eof = e.length == 0;
    e.nonblocking = (a & 32) != 0;
    e.overlap = (a & 0xc0) == 0xc0;
    position += e.length;
    tracker.on_io(e);
  }
  void close(SocketId sock, std::uint8_t a) {
    CloseEvent e;
    e.time = now;
    e.sock = sock;
    e.recv_pos = at[sock % 8][0] + (a & 3);
    e.send_pos = at[sock % 8][1];
    e.positions_known = (a & 4) != 0;
    e.error = (a & 8) != 0 ? 104 : 0;
    tracker.on_close(e);
  }
  void step(const std::uint8_t* s, ByteView payload) {
    const SocketId sock = 1 + s[1] % 8u;
    now += s[5] * kMillisecond / 16;
    switch (s[0] % 16) {
      case 0:
        return open(sock, s[2], s[3]);
      case 1:
        return close(sock, s[2]);
      case 2: {
        ConnectEvent e;
        e.time = now;
        e.sock = sock;
        e.task.pid = s[3] % 8u;
        e.task.tid = s[3] % 16u;
        e.error = s[2] & 1;
        return tracker.on_connect(e);
      }
      case 3:
        return tracker.on_process_exit(s[3] % 8u, now);
      case 4:
        return tracker.on_process_change(s[3] % 8u);
      case 5:
        now += s[2] * kSecond * ((s[3] & 1) != 0 ? 4 : 0);
        tracker.on_advance(now);
        return processor.advance(now);
      case 6:
        return tracker.on_loss({now - std::min<Nanos>(now, s[2] * kMillisecond), now});
      default:
        return io(sock, s[2], s[3], s[4] & 63, payload);
    }
  }
};

void check(bool ok) {
  if (!ok) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Run run;
  while (size >= kStep) {
    const std::size_t length = std::min<std::size_t>(data[4] >> 2, size - kStep);
    run.step(data, {data + kStep, length});
    check(run.tracker.check_conservation());
    data += kStep + length;
    size -= kStep + length;
  }
  run.tracker.finish(run.now);
  run.processor.flush(run.now);
  check(run.tracker.check_conservation());
  check(run.processor.live() == 0);
  return 0;
}
