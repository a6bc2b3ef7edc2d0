// Fuzz target: the MongoDB parsers on any bytes, cut off anywhere, and one connection through
// Tracker and Stream with only this protocol in the registry: the input as a script of calls
// (http1_fuzz.cpp), and, where it begins with a message, that message followed by the script.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>

#include "connection.h"
#include "conntrack/tracker.h"
#include "protocol/mongodb/bson.h"
#include "protocol/mongodb/decompress.h"
#include "protocol/mongodb/parse.h"
#include "protocol/registry.h"

namespace {

using namespace olly;

using olly::fuzz::check;
using olly::fuzz::Policy;
using olly::fuzz::Processes;
using olly::fuzz::Sink;

void parse_all(ByteView bytes) {
  static mongodb::Decompressor decompressor;
  mongodb::Header header;
  if (mongodb::look_at_message(bytes, header) == mongodb::Start::yes) {
    check(bytes.size() >= std::min<std::size_t>(header.length, mongodb::kDetect));
  }
  if (mongodb::look_at_header(bytes, header) != mongodb::Start::yes) return;
  ByteView body = bytes.subspan(mongodb::kHeader);
  std::size_t size = header.length - mongodb::kHeader;
  body = body.first(std::min(body.size(), size));
  mongodb::Opcode opcode = header.opcode;
  if (opcode == mongodb::Opcode::compressed) {
    mongodb::Compressed packed;
    if (mongodb::parse_compressed(body, packed) != mongodb::MessageError::none) return;
    body = decompressor.prefix(packed);
    check(body.size() <= packed.size);
    size = packed.size;
    opcode = packed.opcode;
  }
  mongodb::Command command;
  if (mongodb::parse_command(opcode, body, size, command) == mongodb::MessageError::none) {
    check(!command.operation.empty());
  }
  mongodb::Reply reply;
  mongodb::parse_reply(opcode, body, size, true, reply);
  mongodb::parse_reply(opcode, body, size, false, reply);
}

conntrack::TrackerOptions only_mongodb() {
  conntrack::TrackerOptions options;
  for (const ProtocolInfo& p : protocols()) {
    if (p.name != "mongodb") options.disabled_protocols.emplace_back(p.name);
  }
  return options;
}

// `first` is received before the script begins.
void play(const std::uint8_t* data, std::size_t size, ByteView first);

}  // namespace

namespace {

void play(const std::uint8_t* data, std::size_t size, ByteView first) {
  Policy policy;
  Processes processes;
  Sink sink;
  MetricRegistry metrics;
  conntrack::Tracker tracker(only_mongodb(), policy, processes, sink, metrics);
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
  if (!first.empty()) {
    IoEvent io;
    io.sock = 1;
    io.time = now;
    io.position = at[0];
    io.payload = first;
    io.length = static_cast<std::uint32_t>(first.size());
    at[0] += first.size();
    tracker.on_io(io);
    check(tracker.check_conservation());
  }
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
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView bytes{data, size};
  parse_all(bytes);
  play(data, size, {});
  // As a connection: the message as it says it is long, then calls made of what follows.
  mongodb::Header header;
  if (mongodb::look_at_header(bytes, header) == mongodb::Start::yes) {
    const std::size_t n = std::min<std::size_t>(size, header.length);
    play(data + n, size - n, bytes.first(n));
  }
  return 0;
}
