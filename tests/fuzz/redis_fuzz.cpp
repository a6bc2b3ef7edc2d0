// Fuzz target: one connection through Tracker, Stream and the Redis parser. The input is a script:
// per step one control byte (direction, loss, cut capture, time, end) and a length, then payload.
// The same bytes go in as they are, too, as commands and as replies: so testdata/ is a corpus.
// After every step the bytes must add up, and every exchange that began must be finished exactly
// once.
#include <array>
#include <cstdint>
#include <cstdlib>

#include "connection.h"
#include "conntrack/tracker.h"

namespace {

using namespace olly;

using olly::fuzz::check;
using olly::fuzz::Policy;
using olly::fuzz::Processes;
using olly::fuzz::Sink;

class Run {
 public:
  explicit Run(std::array<std::uint64_t, 2> from) : at_(from) {
    OpenEvent open;
    open.sock = 1;
    open.time = now_;
    open.recv_pos = from[0];
    open.send_pos = from[1];
    open.local.family = Family::inet;
    tracker_.on_open(open);
  }
  void lose(Direction d, std::uint64_t n) { at_[index(d)] += n; }
  void call(Direction d, ByteView payload, std::uint32_t uncaptured, bool overlap, Nanos wait) {
    std::uint64_t& at = at_[index(d)];
    IoEvent io;
    io.sock = 1;
    io.time = now_ += wait;
    io.direction = d;
    io.position = overlap && at > 3 ? at - 3 : at;
    io.payload = payload;
    io.length = static_cast<std::uint32_t>(payload.size()) + uncaptured;
    io.overlap = overlap;
    io.eof = io.length == 0;
    at = std::max(at, io.position + io.length);
    tracker_.on_io(io);
    check(tracker_.check_conservation());
  }
  void advance(Nanos wait) {
    tracker_.on_advance(now_ += wait);
    check(tracker_.check_conservation());
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
  static std::size_t index(Direction d) { return static_cast<std::size_t>(d); }
  Policy policy_;
  Processes processes_;
  Sink sink_;
  MetricRegistry metrics_;
  conntrack::Tracker tracker_{{}, policy_, processes_, sink_, metrics_};
  std::array<std::uint64_t, 2> at_;
  Nanos now_ = kSecond;
};

void pieces(Run& run, Direction d, ByteView bytes, std::size_t piece) {
  while (!bytes.empty()) {
    const std::size_t n = std::min(piece, bytes.size());
    run.call(d, bytes.first(n), 0, false, 10 * kMicrosecond);
    bytes = bytes.subspan(n);
  }
}

// As the replies to one command of each kind, and as commands.
void vectors(ByteView data) {
  static constexpr std::string_view kCommands =
      "*1\r\n$4\r\nPING\r\n*1\r\n$5\r\nMULTI\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n*1\r\n$"
      "4\r\nEXEC\r\n"
      "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n*3\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n$1\r\nb\r\n"
      "*1\r\n$11\r\nUNSUBSCRIBE\r\n*1\r\n$5\r\nRESET\r\n*1\r\n$7\r\nMONITOR\r\n";
  const std::size_t piece = 1 + data.size() % 5;
  Run replies({0, 0});
  replies.call(Direction::recv, as_bytes(kCommands), 0, false, 1);
  pieces(replies, Direction::send, data, piece);
  replies.advance(10 * kMillisecond);
  replies.close();
  Run commands({0, 0});
  pieces(commands, Direction::recv, data, piece);
  commands.call(Direction::send, as_bytes(std::string_view("+PONG\r\n")), 0, false, 1);
  commands.advance(10 * kMillisecond);
  pieces(commands, Direction::send, data, piece);
  commands.close();
}

void script(const std::uint8_t* data, std::size_t size) {
  const bool joined = (data[0] & 0x80) != 0;
  Run run(joined ? std::array<std::uint64_t, 2>{1000, 2000} : std::array<std::uint64_t, 2>{});
  while (size >= 2) {
    const std::uint8_t control = data[0];
    const std::size_t length = std::min<std::size_t>(data[1], size - 2);
    const Direction d = (control & 1) != 0 ? Direction::send : Direction::recv;
    if ((control & 6) == 6) run.lose(d, data[1]);
    run.call(d, {data + 2, length}, (control & 0x30) == 0x30 ? 5 : 0, (control & 8) != 0,
             100 * kMicrosecond);
    if ((control & 0x40) != 0) run.advance(25 * kMillisecond);
    data += 2 + length;
    size -= 2 + length;
  }
  run.close();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  vectors({data, size});
  script(data, size);
  return 0;
}
