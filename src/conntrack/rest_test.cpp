// What an idle connection of each protocol costs whose state takes more than 32 bits.
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "conntrack/tracker.h"
#include "conntrack/tracker_harness.h"

namespace olly::conntrack {
namespace {

struct Said {
  Direction direction;
  std::string bytes;
};

std::string little(std::size_t value, int size) {
  std::string out;
  for (int i = 0; i < size; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
  return out;
}
std::string big(std::size_t value, int size) {
  const std::string out = little(value, size);
  return {out.rbegin(), out.rend()};
}
template <std::size_t kSize>
std::string raw(const char (&text)[kSize]) {
  return {text, kSize - 1};
}

// What a client of each protocol says, up to an exchange behind which nothing is open.
std::vector<Said> postgresql(bool prepares) {
  const auto message = [](char type, const std::string& body) {
    return type + big(body.size() + 4, 4) + body;
  };
  const std::string first = big(0x30000, 4) + raw("user\0bob\0database\0shop\0\0");
  std::vector<Said> all{{Direction::send, big(first.size() + 4, 4) + first},
                        {Direction::recv, message('R', big(0, 4)) + message('Z', "I")},
                        {Direction::send, message('Q', raw("SELECT 1\0"))},
                        {Direction::recv, message('C', raw("SELECT 1\0")) + message('Z', "I")}};
  if (!prepares) return all;
  all.push_back({Direction::send, message('P', raw("s1\0SELECT * FROM t WHERE a = $1\0\0\0")) +
                                      message('D', raw("Ss1\0")) + message('S', "")});
  all.push_back({Direction::recv, message('1', "") + message('t', big(0, 2)) + message('n', "") +
                                      message('Z', "I")});
  return all;
}

std::vector<Said> mysql() {
  const auto packet = [](std::size_t sequence, const std::string& payload) {
    return little(payload.size(), 3) + little(sequence, 1) + payload;
  };
  const std::size_t flags = 0x1008a208;  // with a database, protocol 4.1, secure, DEPRECATE_EOF
  const std::string ok = raw("\0\0\0\2\0\0\0");
  return {{Direction::recv,
           packet(0, raw("\x0a"
                         "8.0.36\0"
                         "1234saltsalt\0") +
                         little(flags & 0xffff, 2) + "\x2d" + raw("\2\0") + little(flags >> 16, 2) +
                         "\x15" + std::string(10, '\0') + raw("saltsaltsalt\0"))},
          {Direction::send, packet(1, little(flags, 4) + little(1 << 24, 4) + "\x2d" +
                                          std::string(23, '\0') + raw("joe\0\x02pwshop\0"))},
          {Direction::recv, packet(2, ok)},
          {Direction::send, packet(0,
                                   "\x03"
                                   "DELETE FROM t")},
          {Direction::recv, packet(1, ok)}};
}

std::vector<Said> http2() {
  const auto frame = [](std::size_t type, std::size_t flags, std::size_t stream,
                        const std::string& payload) {
    return big(payload.size(), 3) + big(type, 1) + big(flags, 1) + big(stream, 4) + payload;
  };
  const auto literal = [](const std::string& name, const std::string& value) {
    return "\x40" + big(name.size(), 1) + name + big(value.size(), 1) + value;
  };
  const std::string request = "\x83\x86" + literal(":path", "/shop.v1.Stock/Unary") +
                              literal(":authority", "127.0.0.1:50051") + literal("te", "trailers") +
                              literal("content-type", "application/grpc") +
                              literal("user-agent", "grpc-python/1.60.0 grpc-c/37.1.0 (linux)");
  return {{Direction::send, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, "")},
          {Direction::recv, frame(4, 0, 0, "") + frame(4, 1, 0, "")},
          {Direction::send, frame(1, 4, 1, request) + frame(0, 1, 1, raw("\0\0\0\0\0"))},
          {Direction::recv, frame(1, 4, 1, "\x88" + literal("content-type", "application/grpc")) +
                                frame(0, 0, 1, raw("\0\0\0\0\0")) +
                                frame(1, 5, 1, literal("grpc-status", "0"))}};
}

// What an idle connection costs, its share of the tables included, by protocol.
TEST(Tracker, BytesPerIdleConnection) {
  struct Of {
    const char* protocol;
    std::vector<Said> said;
    std::uint64_t most;
    std::size_t spans;
  };
  const Of all[] = {{"postgresql", postgresql(false), 400, 1},
                    {"postgresql_prepared", postgresql(true), 700, 1},
                    {"mysql", mysql(), 400, 1},
                    {"http2", http2(), 1100, 1}};
  for (const Of& of : all) {
    Harness h;
    constexpr SocketId kCount = 2000;
    std::array<std::uint64_t, 2> at{};
    for (SocketId id = 10; id < 10 + kCount; ++id) {
      OpenEvent open;
      open.sock = id;
      open.time = h.now;
      open.role = Role::outbound;
      open.task.pid = 100;
      open.local.family = open.remote.family = Family::inet;
      h.tracker.on_open(open);
      at = {};
      for (const Said& said : of.said) {
        IoEvent io;
        io.sock = id;
        io.task.pid = 100;
        io.time = h.now += kMicrosecond;
        io.direction = said.direction;
        io.position = at[static_cast<std::size_t>(said.direction)];
        io.length = static_cast<std::uint32_t>(said.bytes.size());
        io.payload = as_bytes(said.bytes);
        at[static_cast<std::size_t>(said.direction)] += said.bytes.size();
        h.tracker.on_io(io);
      }
    }
    EXPECT_EQ(h.sink.done.size(), of.spans * kCount) << of.protocol;
    const std::uint64_t busy = h.tracker.memory_used() / kCount;
    h.tracker.on_advance(h.now + 10 * kSecond);
    const std::uint64_t idle = h.tracker.memory_used() / kCount;
    EXPECT_LE(idle, of.most) << of.protocol << ", busy: " << busy;
    EXPECT_LT(idle, busy) << of.protocol;
    RecordProperty(std::string("bytes_per_idle_connection_") + of.protocol, std::to_string(idle));
    h.stopped = true;
    for (SocketId id = 10; id < 10 + kCount; ++id) {
      CloseEvent close;
      close.sock = id;
      close.recv_pos = at[0];
      close.send_pos = at[1];
      close.positions_known = id % 2 == 0;  // whether its parser is made again, or forgotten
      h.tracker.on_close(close);
    }
    EXPECT_EQ(h.tracker.connections(), 0u);
    EXPECT_LT(h.tracker.memory_used(), 100u * kCount) << of.protocol;
  }
}

}  // namespace
}  // namespace olly::conntrack
