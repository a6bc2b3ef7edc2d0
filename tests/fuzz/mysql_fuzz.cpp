// Fuzz target: one connection of MySQL's protocol through Tracker and Stream, with a login in front
// of it (or met in its middle). The input is a script: a byte that says what was negotiated, then
// per step one control byte (direction, loss, cut capture, raw, time) and a length, then payload.
// Unless raw, the payload gets a packet's header with the sequence id that is due, and, where
// compression was negotiated, is inside a packet of that. After every step
// the bytes must add up, and every exchange that began must be finished exactly once.
#include <zlib.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "connection.h"
#include "conntrack/tracker.h"

namespace {

using namespace olly;

using olly::fuzz::check;
using olly::fuzz::Policy;
using olly::fuzz::Processes;
using olly::fuzz::Sink;

// Sends bytes of one connection in order.
struct Wire {
  conntrack::Tracker& tracker;
  Nanos now = kSecond;
  std::array<std::uint64_t, 2> at{};

  void move(Direction d, ByteView bytes, std::size_t unseen = 0, bool overlap = false) {
    std::uint64_t& position = at[static_cast<std::size_t>(d)];
    IoEvent io;
    io.sock = 1;
    io.time = now += 100 * kMicrosecond;
    io.direction = d;
    io.position = overlap && position > 3 ? position - 3 : position;
    io.payload = bytes;
    io.length = static_cast<std::uint32_t>(bytes.size() + unseen);
    io.overlap = overlap;
    io.eof = io.length == 0;
    position = std::max(position, io.position + io.length);
    tracker.on_io(io);
    check(tracker.check_conservation());
  }
};

void append(std::string& to, std::uint8_t sequence, std::string_view payload) {
  to += static_cast<char>(payload.size());
  to += static_cast<char>(payload.size() >> 8);
  to += static_cast<char>(payload.size() >> 16);
  to += static_cast<char>(sequence);
  to += payload;
}

std::string little(std::uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i));
  return out;
}

// A packet of the compressed protocol.
std::string packed(std::uint8_t sequence, const std::string& content, bool deflate) {
  std::string inside = content;
  if (deflate) {
    uLongf size = compressBound(content.size());
    inside.resize(size);
    compress2(reinterpret_cast<Bytef*>(inside.data()), &size,
              reinterpret_cast<const Bytef*>(content.data()), content.size(), 1);
    inside.resize(size);
  }
  return little(inside.size(), 3) + static_cast<char>(sequence) +
         little(deflate ? content.size() : 0, 3) + inside;
}

// Greeting, login and OK, seen from the client.
void log_in(Wire& wire, std::uint64_t capabilities) {
  const std::string extended = little(capabilities >> 32, 4);
  const std::string zeros(19, '\0');
  std::string greeting(
      "\x0a"
      "11.4.2-MariaDB\0"
      "1234saltsalt\0",
      29);
  greeting += little(capabilities & 0xffff, 2) + "\x2d" + little(2, 2) +
              little(capabilities >> 16 & 0xffff, 2) + "\x15" + zeros.substr(0, 6) + extended +
              std::string("saltsaltsalt\0native\0", 20);
  std::string bytes;
  append(bytes, 0, greeting);
  wire.move(Direction::recv, as_bytes(bytes));
  std::string login = little(capabilities, 4) + little(1 << 24, 4) + "\x2d" + zeros + extended +
                      std::string("joe\0\x02pwshop\0", 12);
  bytes.clear();
  append(bytes, 1, login);
  wire.move(Direction::send, as_bytes(bytes));
  bytes.clear();
  append(bytes, 2, std::string_view("\0\0\0\2\0\0\0", 7));
  wire.move(Direction::recv, as_bytes(bytes));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  Policy policy;
  Processes processes;
  Sink sink;
  MetricRegistry metrics;
  conntrack::Tracker tracker({}, policy, processes, sink, metrics);
  Wire wire{tracker};
  const std::uint8_t mode = *data++;
  --size;
  if ((mode & 1) != 0) wire.at = {1000, 2000};
  OpenEvent open;
  open.sock = 1;
  open.time = wire.now;
  open.recv_pos = wire.at[0];
  open.send_pos = wire.at[1];
  open.local.family = Family::inet;
  tracker.on_open(open);
  if ((mode & 1) == 0) {
    std::uint64_t capabilities = 1 << 9 | 1 << 15 | 1 << 3;
    if ((mode & 2) != 0) capabilities |= 1 << 24;                  // CLIENT_DEPRECATE_EOF
    if ((mode & 4) != 0) capabilities |= 1 << 23;                  // CLIENT_SESSION_TRACK
    if ((mode & 8) != 0) capabilities |= 1 << 27;                  // CLIENT_QUERY_ATTRIBUTES
    if ((mode & 16) != 0) capabilities |= std::uint64_t{1} << 36;  // MariaDB's metadata caching
    if ((mode & 32) != 0) capabilities |= 1 << 5;                  // CLIENT_COMPRESS
    log_in(wire, capabilities);
  }
  std::uint8_t sequence = 0;
  std::string packet;
  while (size >= 2) {
    const std::uint8_t control = data[0];
    const std::size_t length = std::min<std::size_t>(data[1], size - 2);
    const Direction d = (control & 1) != 0 ? Direction::send : Direction::recv;
    const std::string_view payload = as_text({data + 2, length});
    if ((control & 6) == 6) wire.at[control & 1] += data[1];  // lost
    const bool raw = (control & 0x80) != 0;
    if (!raw) {
      packet.clear();
      // A command begins anew; a file's parts count on.
      if (d == Direction::send && (control & 4) == 0) sequence = 0;
      append(packet, sequence++, payload);
      if ((mode & 33) == 32) packet = packed(sequence, packet, (control & 8) != 0);
    }
    const std::size_t unseen = (control & 0x30) == 0x30 ? 5 : 0;
    wire.move(d, raw ? as_bytes(payload) : as_bytes(packet), unseen, (control & 0x48) == 0x48);
    if ((control & 0x40) != 0) tracker.on_advance(wire.now += 3 * kMillisecond);
    check(tracker.check_conservation());
    data += 2 + length;
    size -= 2 + length;
  }
  CloseEvent close;
  close.sock = 1;
  close.time = wire.now + kSecond;
  close.recv_pos = wire.at[0] + 10;
  close.send_pos = wire.at[1];
  close.positions_known = true;
  tracker.on_close(close);
  check(tracker.check_conservation());
  check(tracker.bytes(Direction::recv).pending() == 0 &&
        tracker.bytes(Direction::send).pending() == 0);
  check(sink.open.empty());
  return 0;
}
