// The TLS layer of a connection: hellos as OpenSSL 3.0 writes them, and what the Tracker makes of
// plaintext and ciphertext.
#include "conntrack/tls.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "base/tls_names.h"
#include "conntrack/tracker.h"

namespace olly::conntrack {
namespace {

std::vector<std::uint8_t> hex(std::string_view text) {
  std::vector<std::uint8_t> out;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    out.push_back(
        static_cast<std::uint8_t>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16)));
  }
  return out;
}

const std::string kClient12 =
    "16030100aa010000a60303486a4462b366c2141525f1c0ea1d0b9cc2a0c01550043efcb4fc48cb69fd3d5200000"
    "4c02b00ff0100007900000011000f00000c73686f702e6578616d706c65000b000403000102000a000c000a001d"
    "0017001e00190018002300000010000e000c02683208687474702f312e310016000000170000000d002a0028040"
    "305030603080708080809080a080b080408050806040105010601030303010302040205020602";
const std::string kServer12 =
    "160303004a020000460303e51c018a1170b563e473313b748b76a44d62d16bd8c5a6de444f574e4752440100c02"
    "b00001eff01000100000b0004030001020023000000100005000302683200170000";
const std::string kServer13 =
    "160303007a020000760303178181e261ba3f8eb464f96bbc8a6c6673b8e4fb55bf5cb9282ed196f5208c8420174"
    "199d22f4124234d8aef2fd466d4016a42b0b22ac90db7b9ed6f1e1ff6a5f2130200002e002b0002030400330024"
    "001d002074c9b8cdc6adfd5fb8ac9ac7ae55347ea30c226fc1cd3c7f65732bdc41754d07";

TEST(Hellos, SayWhoAndHow) {
  TlsInfo info;
  HelloReader reader;
  reader.feed(1, hex(kClient12), info);
  EXPECT_EQ(info.server_name, "shop.example");
  EXPECT_TRUE(reader.done(1));
  EXPECT_FALSE(reader.done());
  reader.feed(0, hex(kServer12), info);
  EXPECT_TRUE(reader.done());
  EXPECT_EQ(tls_version_text(info.version), "1.2");
  EXPECT_EQ(tls_cipher_name(info.cipher), "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
  EXPECT_EQ(info.alpn, "h2");
}

TEST(Hellos, OfTls13InPieces) {
  TlsInfo info;
  HelloReader reader;
  for (const std::uint8_t b : hex(kServer13)) {
    EXPECT_FALSE(reader.done(0));
    reader.feed(0, {&b, 1}, info);
  }
  EXPECT_TRUE(reader.done(0));
  EXPECT_EQ(tls_version_text(info.version), "1.3");
  EXPECT_EQ(tls_cipher_name(info.cipher), "TLS_AES_256_GCM_SHA384");
}

TEST(Hellos, CutAndBrokenOnesEndQuietly) {
  const std::vector<std::uint8_t> good = hex(kClient12);
  for (std::size_t at = 0; at < good.size(); ++at) {
    for (const std::uint8_t value : {std::uint8_t{0}, std::uint8_t{255}}) {
      std::vector<std::uint8_t> bad = good;
      bad[at] = value;
      TlsInfo info;
      HelloReader reader;
      reader.feed(0, bad, info);
      reader.feed(0, std::vector<std::uint8_t>(20000, value), info);
      EXPECT_TRUE(reader.done(0));
    }
  }
  EXPECT_FALSE(looks_like_tls(hex("474554202f20")));
  EXPECT_TRUE(looks_like_tls(good));
}

struct Policy : CapturePolicy {
  void skip_until(SocketId, Direction, std::uint64_t) noexcept override {}
  void limit_copy(SocketId sock, std::uint32_t) noexcept override { limited.push_back(sock); }
  void quiet(SocketId sock) noexcept override { quieted.push_back(sock); }
  void forget(SocketId) noexcept override {}
  std::vector<SocketId> limited, quieted;
};

struct Processes : ProcessLookup {
  ProcessPtr process(std::uint32_t pid) noexcept override {
    auto p = std::make_shared<Process>();
    p->pid = pid;
    p->observed = true;
    return p;
  }
};

struct Sink : ExchangeSink {
  Exchange* begin(const Connection& c, Side, std::uint64_t at, const IoMark&) noexcept override {
    server_name = c.tls() ? c.tls()->info.server_name : "";
    position = at;
    exchanges.push_back(std::make_unique<Exchange>());  // several may be open
    return exchanges.back().get();
  }
  void request(Exchange&) noexcept override {}
  void finish(Exchange* x) noexcept override {
    ++finished;
    incomplete = x->incomplete;
    const auto text = [x](std::string_view key) {
      const Attribute* a = x->attributes.find(key);
      return a ? std::string(x->attributes.string(*a)) : "";
    };
    url_scheme = text("url.scheme");
    system = text("db.system.name");
    database = text("db.namespace");
  }
  void activity(const Connection&, const IoEvent&, Exchange*) noexcept override {}
  void connecting(const ConnectEvent&) noexcept override {}
  void opened(const Connection&) noexcept override {}
  void closed(const Connection&, Nanos) noexcept override {}
  std::vector<std::unique_ptr<Exchange>> exchanges;
  std::string server_name, url_scheme, incomplete, system, database;
  std::uint64_t position = 99;
  int finished = 0;
};

struct TlsTracker : ::testing::Test {
  void open() {
    OpenEvent e;
    e.time = now;
    e.sock = 5;
    e.role = Role::inbound;
    e.task.pid = 100;
    e.local = {Family::inet, 8443, {10, 0, 0, 1}};
    e.remote = {Family::inet, 51000, {10, 0, 0, 9}};
    e.identity = {1, 2};
    tracker.on_open(e);
  }
  void io(Direction d, std::uint64_t position, ByteView bytes, bool plaintext, bool ciphertext) {
    now += kMillisecond;
    IoEvent e;
    e.time = now;
    e.sock = 5;
    e.task.pid = 100;
    e.task.tid = 7;
    e.direction = d;
    e.position = position;
    e.length = static_cast<std::uint32_t>(bytes.size());
    e.payload = bytes;
    e.plaintext = plaintext;
    e.ciphertext = ciphertext;
    tracker.on_io(e);
    EXPECT_TRUE(tracker.check_conservation());
  }
  void plain(Direction d, std::uint64_t position, std::string_view text) {
    io(d, position, as_bytes(text), true, false);
  }
  void close(std::uint64_t recv, std::uint64_t send) {
    CloseEvent e;
    e.time = now += kMillisecond;
    e.sock = 5;
    e.recv_pos = recv;
    e.send_pos = send;
    e.positions_known = true;
    tracker.on_close(e);
    EXPECT_TRUE(tracker.check_conservation());
  }
  std::uint64_t fate(reassembly::Fate f) const {
    return tracker.bytes(Direction::recv).of(f) + tracker.bytes(Direction::send).of(f);
  }
  std::uint64_t seen() const {
    return tracker.bytes(Direction::recv).seen + tracker.bytes(Direction::send).seen;
  }

  static constexpr std::string_view kRequest = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
  static constexpr std::string_view kResponse = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
  Policy policy;
  Processes processes;
  Sink sink;
  MetricRegistry metrics;
  Tracker tracker{{}, policy, processes, sink, metrics};
  Nanos now = kSecond;
};

TEST_F(TlsTracker, ReadsPlaintextAndCountsCiphertext) {
  open();
  const auto client = hex(kClient12);
  const auto server = hex(kServer12);
  io(Direction::recv, 0, client, false, true);
  io(Direction::send, 0, server, false, true);
  ASSERT_EQ(policy.quieted, std::vector<SocketId>{5});  // both hellos are known
  plain(Direction::recv, 0, kRequest);
  plain(Direction::send, 0, kResponse);
  EXPECT_EQ(sink.finished, 1);
  EXPECT_EQ(sink.position, 0u);
  EXPECT_EQ(sink.url_scheme, "https");
  EXPECT_EQ(sink.server_name, "shop.example");
  EXPECT_EQ(sink.incomplete, "");
  ASSERT_FALSE(policy.limited.empty());
  EXPECT_EQ(policy.limited.back(), plaintext_layer(5));
  close(500, 700);
  EXPECT_EQ(seen(), 1200 + kRequest.size() + kResponse.size());
  EXPECT_EQ(fate(reassembly::Fate::skipped), 1200u + 2);  // and the body
  EXPECT_EQ(fate(reassembly::Fate::gap), 0u);
}

// The library is met later (memory BIOs, say): the hellos were read, the socket is quiet.
TEST_F(TlsTracker, PlaintextMayComeAfterTheSocketWentQuiet) {
  open();
  io(Direction::recv, 0, hex(kClient12), false, false);
  io(Direction::send, 0, hex(kServer12), false, false);
  ASSERT_EQ(policy.quieted, std::vector<SocketId>{5});
  EXPECT_EQ(sink.finished, 0);
  plain(Direction::recv, 0, kRequest);
  plain(Direction::send, 0, kResponse);
  EXPECT_EQ(sink.finished, 1);
  EXPECT_EQ(sink.server_name, "shop.example");
  close(1000, 1000);
  EXPECT_EQ(seen(), 2000 + kRequest.size() + kResponse.size());
  EXPECT_EQ(fate(reassembly::Fate::unparsed), hex(kClient12).size() + hex(kServer12).size());
}

// Where one direction is seen from its beginning, so is the other: the first answer counts.
TEST_F(TlsTracker, BeginsInBothDirectionsAtOnce) {
  open();
  io(Direction::recv, 0, hex(kClient12), false, true);
  io(Direction::send, 0, hex(kServer12), false, true);
  plain(Direction::recv, 0, "*2\r\n$3\r\nGET\r\n$1\r\na\r\n");
  plain(Direction::send, 0, "$1\r\n7\r\n");
  EXPECT_EQ(sink.finished, 1);
}

// Older than the agent: positions begin anywhere, the first whole message is read.
TEST_F(TlsTracker, JoinsAtTheNextMessage) {
  open();
  io(Direction::recv, 4000, std::vector<std::uint8_t>(60, 0x17), false, true);
  EXPECT_EQ(policy.quieted, std::vector<SocketId>{5});
  plain(Direction::send, 9000, "the end of a body");
  plain(Direction::recv, 4000, kRequest);
  plain(Direction::send, 9017, kResponse);
  EXPECT_EQ(sink.finished, 1);
  EXPECT_EQ(sink.position, 4000u);
}

// A protocol that begins in the clear: nothing of it is mixed with what TLS carries.
TEST_F(TlsTracker, ChangesOverInTheMiddle) {
  open();
  io(Direction::recv, 0, hex("0000000804d2162f"), false, false);
  io(Direction::send, 0, hex("53"), false, false);
  io(Direction::recv, 8, hex(kClient12), false, true);
  io(Direction::send, 1, hex(kServer12), false, true);
  plain(Direction::recv, 0, kRequest);
  plain(Direction::send, 0, kResponse);
  EXPECT_EQ(sink.finished, 1);
  EXPECT_EQ(sink.server_name, "shop.example");
}

// MySQL: what the greeting said in the clear holds for the login that comes in TLS.
struct MysqlInTls : TlsTracker {
  static std::string packet(int sequence, std::string payload) {
    std::string out{static_cast<char>(payload.size()), 0, 0, static_cast<char>(sequence)};
    return out + payload;
  }
  static std::string example(const char* name) {
    std::ifstream in(std::string(OLLY_SOURCE_DIR "/src/protocol/mysql/testdata/") + name);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::uint64_t shake() {
    open();
    const std::string greeting = packet(0, example("y_greeting_mariadb"));
    const std::string asks = packet(1, example("y_login_ssl_request"));
    io(Direction::send, 0, as_bytes(greeting), false, false);
    io(Direction::recv, 0, as_bytes(asks), false, false);
    io(Direction::recv, asks.size(), hex(kClient12), false, false);
    io(Direction::send, greeting.size(), hex(kServer12), false, false);
    return tracker.memory_used();
  }
  void query(std::uint64_t recv, std::uint64_t send) {
    plain(Direction::recv, recv, packet(0, "\x03select 1"));
    plain(Direction::send, send, packet(1, std::string("\0\0\0\2\0\0\0", 7)));
  }
};

TEST_F(MysqlInTls, GoesOnBehindTheSslRequest) {
  shake();
  const std::string login = packet(2, example("y_login_lenenc"));
  const std::string ok = packet(3, std::string("\0\0\0\2\0\0\0", 7));
  plain(Direction::recv, 0, login);
  plain(Direction::send, 0, ok);
  query(login.size(), ok.size());
  EXPECT_EQ(sink.finished, 1);
  EXPECT_EQ(sink.incomplete, "");
  EXPECT_EQ(sink.system, "mariadb");
  EXPECT_EQ(sink.database, "shop");
  EXPECT_EQ(sink.server_name, "shop.example");
}

TEST_F(MysqlInTls, IsJoinedInItsMiddle) {
  const std::uint64_t kept = shake();
  query(500, 700);  // shows what it is
  EXPECT_LT(tracker.memory_used(), kept) << "of a login that was not seen something is kept";
  query(513, 711);
  EXPECT_EQ(sink.finished, 1);
  EXPECT_EQ(sink.system, "mysql");
}

TEST_F(MysqlInTls, MayNeverBeSeen) {
  const std::uint64_t kept = shake();
  close(500, 700);
  EXPECT_LT(tracker.memory_used(), kept);
  EXPECT_EQ(sink.finished, 0);
}

TEST_F(TlsTracker, LosesNothingOfAMessageThatLostBytes) {
  open();
  io(Direction::recv, 0, hex(kClient12), false, true);
  plain(Direction::recv, 0, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
  plain(Direction::recv, 200, kRequest);  // 148 bytes did not come
  close(500, 700);
  EXPECT_GT(fate(reassembly::Fate::gap), 0u);
}

}  // namespace
}  // namespace olly::conntrack
