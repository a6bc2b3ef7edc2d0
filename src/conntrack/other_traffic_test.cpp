// Detection has no false positive: conversations of what Olly does not speak, through a Tracker
// with every protocol of the registry, as they would come from the kernel (both directions, met at
// the start or in the middle). None may give a span, and none may be taken for a protocol in the
// end.
//
// A million messages (half a second; OLLY_OTHER_MESSAGES=N for more, OLLY_OTHER_SEED=N for others).
// A failure names the kind.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "conntrack/tracker.h"
#include "protocol/names.h"

namespace olly::conntrack {
namespace {

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() { return mix64(state_ += 0x9e3779b97f4a7c15ULL); }
  // 0 to n - 1
  std::size_t below(std::size_t n) { return next() % n; }
  std::size_t between(std::size_t from, std::size_t to) { return from + below(to - from + 1); }
  bool chance(int percent) { return below(100) < static_cast<std::size_t>(percent); }
  std::string bytes(std::size_t n) {
    std::string out(n, '\0');
    for (char& c : out) c = static_cast<char>(next() >> 20);
    return out;
  }
  // Small numbers, zeros and text, as binary protocols are full of.
  std::string structured(std::size_t n) {
    std::string out;
    while (out.size() < n) {
      switch (below(4)) {
        case 0:
          out += big(below(40), 4);
          break;
        case 1:
          out += little(below(40), 4);
          break;
        case 2:
          out += std::string(below(6), '\0');
          break;
        default:
          out += word();
      }
    }
    out.resize(n);
    return out;
  }
  std::string body() {
    const std::size_t n = chance(5) ? between(200, 3000) : between(0, 60);
    return chance(50) ? structured(n) : bytes(n);
  }
  std::string word() {
    std::string out(between(1, 12), 'a');
    for (char& c : out) c = static_cast<char>('a' + below(26));
    return out;
  }
  std::string number() { return std::to_string(below(chance(50) ? 10 : 100000)); }
  std::string_view one_of(std::initializer_list<std::string_view> list) {
    return *(list.begin() + below(list.size()));
  }
  static std::string big(std::uint64_t value, int size) {
    std::string out;
    for (int i = size - 1; i >= 0; --i) out.push_back(static_cast<char>(value >> (8 * i)));
    return out;
  }
  static std::string little(std::uint64_t value, int size) {
    std::string out;
    for (int i = 0; i < size; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
    return out;
  }

 private:
  std::uint64_t state_;
};

// The n-th message of a conversation, from the client or the server.
using Make = std::string (*)(Random& r, int n, bool client);

struct Kind {
  const char* name;
  bool server_first;
  Make make;
};

std::string text(std::initializer_list<std::string_view> parts) {
  std::string out;
  for (const std::string_view p : parts) out += p;
  return out;
}

std::string tls(Random& r, int n, bool) {
  const std::string inside = n == 0 ? r.bytes(r.between(60, 500)) : r.bytes(r.between(1, 1500));
  std::string record{n == 0 ? '\x16' : n == 1 && r.chance(30) ? '\x14' : '\x17'};
  record += n == 0 && r.chance(50) ? "\x03\x01" : "\x03\x03";
  if (n > 0) return record + Random::big(inside.size(), 2) + inside;
  return record + Random::big(inside.size() + 4, 2) + '\x01' + Random::big(inside.size(), 3) +
         inside;
}

std::string smtp(Random& r, int n, bool client) {
  if (!client) {
    if (n == 0) return text({"220 mail.", r.word(), ".example ESMTP\r\n"});
    if (n == 1) return text({"250-mail\r\n250-SIZE ", r.number(), "\r\n250 HELP\r\n"});
    return text(
        {r.one_of({"250 2.1.0 Ok", "354 End data", "550 No such user", "221 Bye"}), "\r\n"});
  }
  if (n == 0) return text({"EHLO ", r.word(), "\r\n"});
  return text({r.one_of({"MAIL FROM:<", "RCPT TO:<", "VRFY <", "DATA\r\nFrom: <"}), r.word(), "@",
               r.word(), ".example>\r\n"});
}

std::string pop3(Random& r, int n, bool client) {
  if (!client) {
    if (n == 0) return "+OK POP3 ready <1896.697170952@mail.example>\r\n";
    return text({r.one_of({"+OK ", "+OK", "-ERR ", "+OK 2 "}), r.chance(60) ? r.number() : r.word(),
                 "\r\n"});
  }
  return text(
      {r.one_of({"USER ", "PASS ", "STAT", "LIST", "RETR ", "DELE ", "NOOP", "UIDL ", "QUIT"}),
       r.chance(60) ? r.number() : r.word(), "\r\n"});
}

std::string imap(Random& r, int n, bool client) {
  const std::string tag = "a" + std::to_string(n);
  if (client) {
    return text({tag, " ",
                 r.one_of({"LOGIN ", "SELECT ", "FETCH 1:* ", "SEARCH ", "NOOP ", "IDLE "}),
                 r.word(), "\r\n"});
  }
  if (n == 0) return "* OK [CAPABILITY IMAP4rev1] ready\r\n";
  if (r.chance(50)) return text({"* ", r.number(), " EXISTS\r\n", tag, " OK done\r\n"});
  return text({r.one_of({"* FLAGS (", "+ idling (", "* LIST ("}), r.word(), ")\r\n"});
}

std::string ftp(Random& r, int n, bool client) {
  if (!client) {
    if (n == 0) return "220 (vsFTPd 3.0.5)\r\n";
    return text({r.one_of({"331 ", "230 ", "200 ", "226 ", "550 "}), r.word(), "\r\n"});
  }
  return text({r.one_of({"USER ", "PASS ", "TYPE ", "PORT 10,0,0,1,", "RETR ", "LIST ", "CWD "}),
               r.word(), "\r\n"});
}

std::string irc(Random& r, int n, bool client) {
  if (client) {
    if (n == 0) return text({"NICK ", r.word(), "\r\nUSER x 0 * :x\r\n"});
    return text(
        {r.one_of({"JOIN #", "PRIVMSG #", "PING ", "PART #"}), r.word(), " :", r.word(), "\r\n"});
  }
  return text({":irc.example ", r.number(), " ", r.word(), " :", r.word(), "\r\n"});
}

std::string zookeeper(Random& r, int n, bool client) {
  std::string inside;
  if (n == 0) {
    inside = Random::big(0, 4) + Random::big(client ? 0 : 30000, client ? 8 : 4) +
             Random::big(client ? 30000 : r.next(), client ? 4 : 8) +
             Random::big(0, client ? 8 : 0) + Random::big(16, 4) +
             (client ? std::string(16, '\0') : r.bytes(16));
  } else if (client) {
    const std::string path = "/" + r.word();
    inside = Random::big(static_cast<std::uint64_t>(n), 4) + Random::big(r.between(1, 14), 4) +
             Random::big(path.size(), 4) + path + '\0';
  } else {
    inside = Random::big(static_cast<std::uint64_t>(n), 4) + Random::big(r.below(5000), 8) +
             Random::big(0, 4) + r.body();
  }
  return Random::big(inside.size(), 4) + inside;
}

std::string memcached(Random& r, int, bool client) {
  if (client) {
    if (r.chance(50)) return text({"get ", r.word(), "\r\n"});
    return text({"set ", r.word(), " 0 0 5\r\nhello\r\n"});
  }
  return std::string(r.one_of({"STORED\r\n", "END\r\n", "VALUE a 0 5\r\nhello\r\nEND\r\n",
                               "NOT_FOUND\r\n", "ERROR\r\n", "VERSION 1.6.18\r\n", "OK\r\n"}));
}

std::string memcached_binary(Random& r, int, bool client) {
  const std::string key = client ? r.word() : "";
  const std::string value = r.body();
  return std::string(client ? "\x80" : "\x81") + Random::big(r.below(10), 1) +
         Random::big(key.size(), 2) + std::string(4, '\0') +
         Random::big(key.size() + value.size(), 4) + r.bytes(4) + std::string(8, '\0') + key +
         value;
}

std::string kafka(Random& r, int n, bool client) {
  std::string inside;
  if (client) {
    const std::string id = r.word();
    inside = Random::big(r.below(60), 2) + Random::big(r.below(12), 2) +
             Random::big(static_cast<std::uint64_t>(n), 4) + Random::big(id.size(), 2) + id +
             r.body();
  } else {
    inside = Random::big(static_cast<std::uint64_t>(n), 4) + Random::big(0, 2) + r.body();
  }
  return Random::big(inside.size(), 4) + inside;
}

std::string amqp(Random& r, int n, bool client) {
  if (n == 0 && client) return {"AMQP\0\0\x09\x01", 8};
  const std::string inside =
      Random::big(r.between(10, 90), 2) + Random::big(r.between(10, 120), 2) + r.body();
  return Random::big(r.between(1, 3), 1) + Random::big(r.below(4), 2) +
         Random::big(inside.size(), 4) + inside + "\xce";
}

std::string mqtt(Random& r, int n, bool client) {
  if (n == 0 && client) {
    const std::string id = r.word();
    return "\x10" + Random::big(12 + id.size(), 1) + Random::big(4, 2) + "MQTT\x04\x02" +
           Random::big(60, 2) + Random::big(id.size(), 2) + id;
  }
  if (!client) return n == 0 ? std::string("\x20\x02\0\0", 4) : "\x40\x02" + r.bytes(2);
  const std::string topic = r.word();
  const std::string inside = Random::big(topic.size(), 2) + topic + r.structured(r.below(90));
  return "\x30" + Random::big(inside.size(), 1) + inside;
}

std::string nats(Random& r, int n, bool client) {
  if (n == 0) {
    return client ? "CONNECT {\"verbose\":true,\"pedantic\":false}\r\nPING\r\n"
                  : "INFO {\"server_id\":\"x\",\"version\":\"2.9.10\",\"max_payload\":1048576}\r\n";
  }
  if (client) {
    if (r.chance(30)) return "PING\r\n";
    return text({r.one_of({"PUB ", "SUB "}), r.word(), " 5\r\nhello\r\n"});
  }
  return std::string(r.one_of({"+OK\r\n", "PONG\r\n", "PING\r\n", "MSG a 1 5\r\nhello\r\n",
                               "-ERR 'Unknown Protocol Operation'\r\n"}));
}

std::string ssh(Random& r, int n, bool) {
  if (n == 0) return text({"SSH-2.0-OpenSSH_", r.number(), "\r\n"});
  const std::string inside = r.bytes(r.between(12, 600));
  return Random::big(inside.size() + 1, 4) + Random::big(r.below(12), 1) + inside;
}

std::string syslog(Random& r, int, bool client) {
  if (!client) return {};
  const std::string line = text({"<", std::to_string(r.below(190)), ">1 2026-01-01T00:00:00Z host ",
                                 r.word(), " - - - ", r.word(), "\n"});
  return r.chance(50) ? line : std::to_string(line.size()) + " " + line;
}

std::string dns(Random& r, int, bool client) {
  const std::string name = r.word();
  const std::string inside = r.bytes(2) + (client ? "\x01" : "\x81") +
                             std::string("\0\0\x01\0\0\0\0\0\0", 9) + Random::big(name.size(), 1) +
                             name + std::string("\0\0\x01\0\x01", 5);
  return Random::big(inside.size(), 2) + inside;
}

std::string ldap(Random& r, int n, bool client) {
  const std::string inside = "\x02\x01" + Random::big(static_cast<std::uint64_t>(n) + 1, 1) +
                             (client ? "\x60" : "\x61") + Random::big(20, 1) + r.structured(20);
  return "\x30" + Random::big(inside.size(), 1) + inside;
}

std::string smb(Random& r, int, bool) {
  const std::string inside = std::string("\xfeSMB\x40\0", 6) + r.structured(r.between(60, 200));
  return '\0' + Random::big(inside.size(), 3) + inside;
}

std::string cassandra(Random& r, int n, bool client) {
  const std::string inside = client && n > 0 ? Random::big(14, 4) + "SELECT * FROM " : r.body();
  return std::string(client ? "\x04" : "\x84") + '\0' + Random::big(r.below(20), 2) +
         Random::big(r.below(17), 1) + Random::big(inside.size(), 4) + inside;
}

std::string rtsp(Random& r, int n, bool client) {
  if (client) {
    return text({r.one_of({"OPTIONS rtsp://", "DESCRIBE rtsp://", "PLAY rtsp://"}), r.word(),
                 " RTSP/1.0\r\nCSeq: ", std::to_string(n), "\r\n\r\n"});
  }
  return text({"RTSP/1.0 200 OK\r\nCSeq: ", std::to_string(n), "\r\n\r\n"});
}

std::string sip(Random& r, int n, bool client) {
  if (client) {
    return text({r.one_of({"INVITE sip:", "REGISTER sip:", "OPTIONS sip:"}), r.word(),
                 "@h SIP/2.0\r\nCSeq: ", std::to_string(n), " X\r\n\r\n"});
  }
  return text({"SIP/2.0 200 OK\r\nCSeq: ", std::to_string(n), " X\r\n\r\n"});
}

std::string lines(Random& r, int, bool) {
  switch (r.below(5)) {
    case 0:
      return text(
          {"{\"", r.word(), "\":", r.number(), ",\"", r.word(), "\":\"", r.word(), "\"}\n"});
    case 1:
      return text({r.word(), ".", r.word(), ":", r.number(), "|c\n"});
    case 2:
      return text({r.word(), ".", r.word(), " ", r.number(), " 1700000000\n"});
    case 3:
      return text({"<", r.word(), " to='", r.word(), "'><", r.word(), "/></x>"});
    default:
      return text({r.word(), " ", r.word(), " ", r.number(), "\r\n"});
  }
}

std::string beanstalk(Random& r, int, bool client) {
  if (client)
    return text({r.one_of({"put 0 0 60 5\r\nhello", "reserve", "delete 1", "use x"}), "\r\n"});
  return text({r.one_of({"INSERTED ", "RESERVED ", "DELETED", "USING "}), r.number(), "\r\n"});
}

std::string clickhouse(Random& r, int n, bool client) {
  if (n == 0)
    return std::string(1, '\0') +
           "\x11"
           "ClickHouse client" +
           r.structured(30);
  return Random::big(client ? 1 : r.below(6), 1) + r.structured(r.between(10, 80));
}

// Lengths in front of bodies, in the shapes that binary protocols have.
template <int kSize, bool kLittle, bool kInclusive>
std::string counted(Random& r, int, bool) {
  const std::string body = r.body();
  const std::size_t n = body.size() + (kInclusive ? kSize : 0);
  return (kLittle ? Random::little(n, kSize) : Random::big(n, kSize)) + body;
}

std::string thrift(Random& r, int n, bool client) {
  const std::string name = r.word();
  const std::string inside = std::string("\x80\x01\0", 3) + (client ? '\x01' : '\x02') +
                             Random::big(name.size(), 4) + name +
                             Random::big(static_cast<std::uint64_t>(n), 4) + r.structured(20);
  return Random::big(inside.size(), 4) + inside;
}

// A length and four numbers, as a MongoDB header has.
std::string four_numbers(Random& r, int n, bool client) {
  const std::string body = r.body();
  return Random::little(16 + body.size(), 4) + Random::little(static_cast<std::uint64_t>(n), 4) +
         Random::little(client ? 0 : static_cast<std::uint64_t>(n), 4) +
         Random::little(r.below(3000), 4) + body;
}

// A length of three bytes and a number, as MySQL's packets have.
std::string three_and_one(Random& r, int n, bool) {
  const std::string body = r.body();
  return Random::little(body.size(), 3) +
         Random::little(r.chance(50) ? static_cast<std::uint64_t>(n) : r.below(256), 1) + body;
}

// A length of three bytes, type, flags, a number: as HTTP/2's frames have.
std::string nine_bytes(Random& r, int, bool) {
  const std::string body = r.body();
  return Random::big(body.size(), 3) + Random::big(r.below(12), 1) + Random::big(r.below(40), 1) +
         Random::big(r.below(9), 4) + body;
}

// A letter and a length that counts itself, as PostgreSQL's messages have.
std::string letter_and_length(Random& r, int, bool) {
  const std::string body = r.body();
  return std::string(1, static_cast<char>('A' + r.below(58))) + Random::big(body.size() + 4, 4) +
         body;
}

std::string any(Random& r, int, bool) { return r.bytes(r.between(1, 300)); }

constexpr Kind kKinds[] = {
    {"random", false, &any},
    {"big 4", false, &counted<4, false, false>},
    {"big 4 inclusive", false, &counted<4, false, true>},
    {"big 2", false, &counted<2, false, false>},
    {"little 4", false, &counted<4, true, false>},
    {"little 4 inclusive", true, &counted<4, true, true>},
    {"little 2", false, &counted<2, true, false>},
    {"little 3", true, &counted<3, true, false>},
    {"one byte", false, &counted<1, true, false>},
    {"four numbers", false, &four_numbers},
    {"three and one", true, &three_and_one},
    {"nine bytes", false, &nine_bytes},
    {"letter and length", false, &letter_and_length},
    {"thrift", false, &thrift},
    {"tls", false, &tls},
    {"smtp", true, &smtp},
    {"pop3", true, &pop3},
    {"imap", true, &imap},
    {"ftp", true, &ftp},
    {"irc", false, &irc},
    {"zookeeper", false, &zookeeper},
    {"memcached", false, &memcached},
    {"memcached binary", false, &memcached_binary},
    {"kafka", false, &kafka},
    {"amqp", false, &amqp},
    {"mqtt", false, &mqtt},
    {"nats", true, &nats},
    {"ssh", true, &ssh},
    {"syslog", false, &syslog},
    {"dns", false, &dns},
    {"ldap", false, &ldap},
    {"smb", false, &smb},
    {"cassandra", false, &cassandra},
    {"rtsp", false, &rtsp},
    {"sip", false, &sip},
    {"lines", false, &lines},
    {"beanstalk", false, &beanstalk},
    {"clickhouse", false, &clickhouse},
};

struct QuietPolicy final : CapturePolicy {
  void skip_until(SocketId, Direction, std::uint64_t) noexcept override {}
  void limit_copy(SocketId, std::uint32_t) noexcept override {}
  void quiet(SocketId) noexcept override {}
  void forget(SocketId) noexcept override {}
};

struct OneProcess final : ProcessLookup {
  ProcessPtr process(std::uint32_t) noexcept override { return known; }
  ProcessPtr known = std::make_shared<Process>();
};

struct CountingSink final : ExchangeSink {
  Exchange* begin(const Connection&, Side side, std::uint64_t, const IoMark&) noexcept override {
    auto x = std::make_unique<Exchange>();
    x->side = side;
    return x.release();
  }
  void request(Exchange&) noexcept override {}
  void finish(Exchange* x) noexcept override {
    last = x->attributes.text(x->name);
    ++spans;
    delete x;
  }
  void activity(const Connection&, const IoEvent&, Exchange*) noexcept override {}
  void connecting(const ConnectEvent&) noexcept override {}
  void opened(const Connection&) noexcept override {}
  void closed(const Connection&, Nanos) noexcept override {}
  std::uint64_t spans = 0;
  std::string last;
};

// Conversations, one after the other, each on a connection of its own.
class Talk {
 public:
  // `only`: of the registry's protocols that one alone, if it is not empty.
  explicit Talk(std::string_view only = {})
      : tracker_(options(only), policy_, processes_, sink_, metrics_) {}

  // How many messages were moved.
  std::uint64_t play(const Kind& kind, Random r) {
    const bool client_side = r.chance(50);
    const bool middle = r.chance(25);
    OpenEvent open;
    open.sock = ++sock_;
    open.time = now_ += kMillisecond;
    const Role role = client_side ? Role::outbound : Role::inbound;
    open.role = r.chance(20) ? Role::unknown : role;
    open.local.family = open.remote.family = Family::inet;
    at_ = {};
    if (middle) at_ = {r.between(1, 5000), r.between(1, 5000)};
    open.recv_pos = at_[0];
    open.send_pos = at_[1];
    tracker_.on_open(open);
    const std::uint64_t spans = sink_.spans;
    const int turns = static_cast<int>(r.between(1, 6));
    std::uint64_t messages = 0;
    for (int n = 0; n < turns; ++n) {
      const int number = middle ? n + 2 : n;
      for (const bool client : {!kind.server_first, kind.server_first}) {
        const std::string message = kind.make(r, number, client);
        move(r, client == client_side ? Direction::send : Direction::recv, message);
        ++messages;
      }
    }
    const bool taken = tracker_.confirmed(open.sock);
    CloseEvent close;
    close.sock = open.sock;
    close.time = now_ += kMillisecond;
    close.recv_pos = at_[0];
    close.send_pos = at_[1];
    close.positions_known = true;
    tracker_.on_close(close);
    if (sink_.spans > spans) ++gave_span[kind.name + std::string(": ") + sink_.last];
    if (taken) ++was_taken[kind.name];
    wrong = taken || sink_.spans > spans;
    return messages;
  }
  bool wrong = false;  // in the latest conversation

  std::uint64_t parsed() const {
    return tracker_.bytes(Direction::recv).of(reassembly::Fate::parsed) +
           tracker_.bytes(Direction::send).of(reassembly::Fate::parsed);
  }

  std::map<std::string, int> gave_span;
  std::map<std::string, int> was_taken;

 private:
  static TrackerOptions options(std::string_view only) {
    TrackerOptions out;
    for (const ProtocolInfo& p : protocols()) {
      if (!only.empty() && p.name != only) out.disabled_protocols.emplace_back(p.name);
    }
    return out;
  }
  void move(Random& r, Direction d, std::string_view bytes) {
    // Now and then in two calls.
    const std::size_t cut = r.chance(10) && bytes.size() > 1 ? r.between(1, bytes.size() - 1) : 0;
    for (const std::string_view part : {bytes.substr(0, cut), bytes.substr(cut)}) {
      if (part.empty()) continue;
      IoEvent io;
      io.sock = sock_;
      io.time = now_ += 50 * kMicrosecond;
      io.direction = d;
      io.position = at_[static_cast<std::size_t>(d)];
      io.length = static_cast<std::uint32_t>(part.size());
      io.payload = as_bytes(part);
      at_[static_cast<std::size_t>(d)] += part.size();
      tracker_.on_io(io);
    }
    tracker_.on_advance(now_);
  }

  QuietPolicy policy_;
  OneProcess processes_;
  CountingSink sink_;
  MetricRegistry metrics_;
  Tracker tracker_;
  SocketId sock_ = 0;
  Nanos now_ = kSecond;
  std::array<std::uint64_t, 2> at_{};
};

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// The measure is one: what Olly does speak is found by it.
TEST(OtherTraffic, HttpIsOne) {
  Talk talk;
  const Kind http{"http", false, [](Random&, int, bool client) {
                    return std::string(client ? "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
                                              : "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                  }};
  for (std::uint64_t n = 0; n < 20; ++n) talk.play(http, Random(n));
  EXPECT_EQ(talk.gave_span["http: GET"], 20);
  EXPECT_EQ(talk.was_taken["http"], 20);
}

TEST(OtherTraffic, IsNoProtocolThatWeSpeak) {
  const std::uint64_t wanted = from_environment("OLLY_OTHER_MESSAGES", 1'000'000);
  const std::uint64_t seed = from_environment("OLLY_OTHER_SEED", 5);
  Talk talk;
  std::uint64_t messages = 0;
  for (std::uint64_t n = 0; messages < wanted; ++n) {
    const Kind& kind = kKinds[n % std::size(kKinds)];
    const Random random(mix64(seed) + n * 977);
    messages += talk.play(kind, random);
    if (!talk.wrong) continue;
    for (const ProtocolInfo& p : protocols()) {
      Talk alone(p.name);
      alone.play(kind, random);
      ADD_FAILURE() << kind.name << ", number " << n << ": " << p.name << " parsed "
                    << alone.parsed() << " bytes" << (alone.wrong ? " and stayed with it" : "");
    }
  }
  for (const auto& [what, times] : talk.gave_span) ADD_FAILURE() << times << " spans of " << what;
  for (const auto& [what, times] : talk.was_taken)
    ADD_FAILURE() << times << " times taken: " << what;
}

}  // namespace
}  // namespace olly::conntrack
