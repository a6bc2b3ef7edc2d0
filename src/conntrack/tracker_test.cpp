#include "conntrack/tracker_harness.h"

namespace olly::conntrack {
namespace {

TEST(Tracker, KeepAlive) {
  Harness h;
  h.open();
  for (int i = 0; i < 3; ++i) {
    h.recv(kGet);
    h.send(kOk);
    ASSERT_EQ(h.sink.done.size(), static_cast<std::size_t>(i + 1));
    const Done& d = h.sink.done.back();
    EXPECT_EQ(d.status_code(), 200);
    EXPECT_EQ(d.name, "GET");
    EXPECT_EQ(d.side, Side::server);
    EXPECT_EQ(d.text.at("url.path"), "/a");
    EXPECT_EQ(d.text.at("url.query"), "x=1");
    EXPECT_EQ(d.text.at("url.scheme"), "http");
    EXPECT_EQ(d.text.at("server.address"), "shop");
    EXPECT_EQ(d.number.at("server.port"), 81);
    EXPECT_EQ(d.text.at("client.address"), "10.0.0.9");
    EXPECT_EQ(d.text.at("network.peer.address"), "10.0.0.9");
    EXPECT_EQ(d.number.at("network.peer.port"), 51000);
    EXPECT_EQ(d.text.at("network.protocol.version"), "1.1");
    EXPECT_EQ(d.number.at("http.response.body.size"), 2);
    EXPECT_EQ(d.end - d.begin, kMillisecond);
    EXPECT_EQ(d.incomplete, "");
  }
  EXPECT_EQ(h.fate(Direction::send, reassembly::Fate::skipped), 6u);
}

TEST(Tracker, ClientErrorsAndUrl) {
  Harness h;
  h.open(Role::unknown);
  h.send("GET http://u:p@x.example/p?sig=abc&y=1 HTTP/1.1\r\nHost: y\r\n\r\n");
  h.recv("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
  ASSERT_EQ(h.sink.done.size(), 1u);
  const Done& d = h.sink.done[0];
  EXPECT_EQ(d.side, Side::client);
  EXPECT_EQ(d.text.at("url.full"), "http://REDACTED:REDACTED@x.example/p?sig=REDACTED&y=1");
  EXPECT_EQ(d.text.at("server.address"), "x.example");
  EXPECT_EQ(d.number.at("server.port"), 80);
  EXPECT_EQ(d.text.at("error.type"), "404");
  EXPECT_EQ(d.status, StatusCode::error);
}

struct Case {
  const char* name;
  std::string requests;
  std::string responses;
  std::vector<std::pair<std::string, int>> want;  // target, status
};

std::vector<Case> cases() {
  return {
      {"pipelined",
       "GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n"
       "GET /3 HTTP/1.1\r\nHost: h\r\n\r\n",
       "HTTP/1.1 201 A\r\nContent-Length: 1\r\n\r\naHTTP/1.1 202 B\r\nContent-Length: 1\r\n\r\nb"
       "HTTP/1.1 203 C\r\nContent-Length: 1\r\n\r\nc",
       {{"/1", 201}, {"/2", 202}, {"/3", 203}}},
      {"head_204_304",
       "HEAD /1 HTTP/1.1\r\nHost: h\r\n\r\nDELETE /2 HTTP/1.1\r\nHost: h\r\n\r\n"
       "GET /3 HTTP/1.1\r\nHost: h\r\n\r\n",
       "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nHTTP/1.1 204 No\r\n\r\n"
       "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
       {{"/1", 200}, {"/2", 204}, {"/3", 304}}},
      {"chunked",
       "POST /1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
       "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: 1\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
       "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
       "HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\nbad",
       {{"/1", 200}, {"/2", 500}}},
      {"close_delimited",
       "GET /1 HTTP/1.0\r\n\r\n",
       "HTTP/1.0 200 OK\r\n\r\nall of it",
       {{"/1", 200}}},
      {"upgrade",
       "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: "
       "websocket\r\n\r\n\x81\x05zzzzz",
       "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n\x81\x02zz",
       {{"/ws", 101}}},
  };
}

void expect_case(const Case& c, const std::vector<Done>& done, const std::string& where) {
  ASSERT_EQ(done.size(), c.want.size()) << c.name << where;
  for (std::size_t i = 0; i < done.size(); ++i) {
    EXPECT_EQ(done[i].target(), c.want[i].first) << c.name << where;
    EXPECT_EQ(done[i].status_code(), c.want[i].second) << c.name << where;
    EXPECT_EQ(done[i].incomplete, "") << c.name << where;
  }
}

TEST(Tracker, FramingAndPairing) {
  for (const Case& c : cases()) {
    Harness h;
    h.open();
    h.recv(c.requests);
    h.send(c.responses);
    h.close();
    expect_case(c, h.sink.done, "");
  }
}

TEST(Tracker, SplitAtEveryByte) {
  for (const Case& c : cases()) {
    for (std::size_t cut = 1; cut < c.requests.size(); ++cut) {
      Harness h;
      h.open();
      h.recv(std::string_view(c.requests).substr(0, cut));
      h.recv(std::string_view(c.requests).substr(cut));
      h.send(c.responses);
      h.close();
      expect_case(c, h.sink.done, " request cut at " + std::to_string(cut));
    }
    for (std::size_t cut = 1; cut < c.responses.size(); ++cut) {
      Harness h;
      h.open();
      h.recv(c.requests);
      h.send(std::string_view(c.responses).substr(0, cut));
      h.send(std::string_view(c.responses).substr(cut));
      h.close();
      expect_case(c, h.sink.done, " response cut at " + std::to_string(cut));
    }
    Harness h;
    h.open();
    for (const char& byte : c.requests) h.recv({&byte, 1});
    for (const char& byte : c.responses) h.send({&byte, 1});
    h.close();
    expect_case(c, h.sink.done, " byte by byte");
  }
}

// Whatever range is lost: what is said of a request's response is true, or it is not said.
TEST(Tracker, EveryRangeLost) {
  for (const Case& c : cases()) {
    std::map<std::string, int> truth(c.want.begin(), c.want.end());
    for (const Direction lost : {Direction::recv, Direction::send}) {
      const std::string& text = lost == Direction::recv ? c.requests : c.responses;
      for (std::size_t from = 0; from < text.size(); from += 3) {
        for (std::size_t to = from + 1; to <= text.size(); to += 5) {
          Harness h;
          h.open();
          const auto play = [&](Direction d, std::string_view bytes) {
            if (d != lost) {
              h.move(d, bytes, bytes.size());
              return;
            }
            if (from > 0) h.move(d, bytes.substr(0, from), from);
            h.lose(d, to - from);
            if (to < bytes.size()) h.move(d, bytes.substr(to), bytes.size() - to);
            h.advance(5 * kMillisecond);
          };
          play(Direction::recv, c.requests);
          play(Direction::send, c.responses);
          h.close();
          const reassembly::ByteLedger& l = h.tracker.bytes(lost);
          EXPECT_EQ(l.seen, text.size());
          for (const Done& d : h.sink.done) {
            const auto it = truth.find(d.target());
            if (it == truth.end() || d.status_code() < 0) continue;
            EXPECT_EQ(d.status_code(), it->second)
                << c.name << " " << d.target() << " lost " << static_cast<int>(lost) << " " << from
                << ".." << to;
          }
        }
      }
    }
  }
}

TEST(Tracker, LongBodyIsSkippedExactly) {
  Harness h;
  h.open();
  h.recv(kGet);
  const std::string head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
  h.move(Direction::send, head + std::string(100, 'x'), head.size() + 1000);  // cut by the limit
  EXPECT_EQ(h.policy.skipped_to[1], head.size() + 1000000);
  h.lose(Direction::send, 900000);  // the kernel leaves the events out
  EXPECT_EQ(h.sink.done.size(), 0u);
  h.move(Direction::send, "", 99000);  // the call that reaches the end
  ASSERT_EQ(h.sink.done.size(), 1u);
  EXPECT_EQ(h.sink.done[0].end, h.now);
  EXPECT_EQ(h.sink.done[0].number.at("http.response.body.size"), 1000000);
  h.recv(kGet);
  h.send(kOk);
  EXPECT_EQ(h.sink.done.size(), 2u);
  h.close();
  EXPECT_EQ(h.fate(Direction::send, reassembly::Fate::gap), 0u);
  EXPECT_EQ(h.fate(Direction::send, reassembly::Fate::skipped), 1000002u);
}

TEST(Tracker, SuspiciousFramingIsMarked) {
  for (const char* fields : {"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
                             "Content-Length: 3\r\nContent-Length: 4\r\n", "Content-Length: x\r\n",
                             "Transfer-Encoding: chunked, gzip\r\n"}) {
    Harness h;
    h.open();
    h.recv(std::string("POST /s HTTP/1.1\r\nHost: h\r\n") + fields +
           "\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n");
    h.send("HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n");
    ASSERT_EQ(h.sink.done.size(), 1u) << fields;
    EXPECT_EQ(h.sink.done[0].incomplete, "ambiguous framing");
    EXPECT_EQ(h.sink.done[0].status_code(), 400);
  }
}

TEST(Tracker, NoAnswer) {
  {
    Harness h;
    h.open();
    h.recv(kGet);
    h.close(104);
    ASSERT_EQ(h.sink.done.size(), 1u);
    EXPECT_EQ(h.sink.done[0].text.at("error.type"), "ECONNRESET");
    EXPECT_EQ(h.sink.done[0].status, StatusCode::error);
  }
  {
    Harness h;
    h.open();
    h.recv(kGet);
    h.advance(62 * kSecond);
    ASSERT_EQ(h.sink.done.size(), 1u);
    EXPECT_EQ(h.sink.done[0].text.at("error.type"), "timeout");
    h.send(kOk);  // late: belongs to nobody, and to no other request
    h.recv("GET /b HTTP/1.1\r\nHost: h\r\n\r\n");
    h.send("HTTP/1.1 204 No\r\n\r\n");
    ASSERT_EQ(h.sink.done.size(), 2u);
    EXPECT_EQ(h.sink.done[1].status_code(), 204);
  }
}

TEST(Tracker, ResponseStampedBeforeItsRequest) {
  Harness h;
  h.open(Role::outbound);
  h.recv(kOk);
  h.send(kGet);
  ASSERT_EQ(h.sink.done.size(), 1u);
  EXPECT_EQ(h.sink.done[0].status_code(), 200);
}

TEST(Tracker, OutOfOrderCalls) {
  Harness h;
  h.open();
  const std::size_t half = 10;
  h.at[0] = half;
  h.recv(kGet.substr(half));
  h.at[0] = 0;
  h.now -= kMillisecond;  // within the hold time
  h.recv(kGet.substr(0, half));
  h.at[0] = kGet.size();
  h.send(kOk);
  EXPECT_EQ(h.sink.done.size(), 1u);
  EXPECT_EQ(h.fate(Direction::recv, reassembly::Fate::parsed), kGet.size());
}

TEST(Tracker, MetInTheMiddle) {
  Harness h;
  h.open(Role::inbound, 500, 900);
  h.send("rest of a body");
  h.recv("rest of another");
  h.recv(kGet);
  h.send(kOk);
  EXPECT_EQ(h.sink.done.size(), 1u);
}

// What a long body leaves of its calls is no reason to give up; an unknown conversation is.
TEST(Tracker, MetInTheMiddleOfALongBody) {
  Harness h;
  h.open(Role::inbound, 500, 900);
  for (int i = 0; i < 500; ++i) h.send("\x80\x81 the rest of a body");
  h.recv(kGet);
  h.send(kOk);
  EXPECT_EQ(h.sink.done.size(), 1u);
  Harness unknown;
  unknown.open(Role::inbound, 500, 900);
  for (int i = 0; i < 33; ++i) {
    unknown.recv("\x80\x81 a question");
    unknown.send("\x80\x81 an answer");
  }
  EXPECT_EQ(unknown.policy.quiets, 1);
}

// Bytes that could have become something do not hide the call behind them.
TEST(Tracker, MetInTheMiddleOfWhatCouldBeAHeader) {
  Harness h;
  h.open(Role::inbound, 500, 900);
  h.recv({"\x80\x00\x00", 3});
  h.recv(kGet);
  h.send(kOk);
  EXPECT_EQ(h.sink.done.size(), 1u);
  EXPECT_EQ(h.fate(Direction::recv, reassembly::Fate::unparsed), 3u);
}

TEST(Tracker, UnknownProtocolGoesQuiet) {
  Harness h;
  h.open();
  h.recv("\x81 neither this...");
  EXPECT_EQ(h.policy.quiets, 0) << "it may be an answer that is stamped before its question";
  h.send("\x82 nor that\r\n");
  EXPECT_EQ(h.policy.quiets, 1);
  h.lose(Direction::recv, 1000);
  h.close();
  EXPECT_EQ(h.fate(Direction::recv, reassembly::Fate::unparsed), 1017u);
  Harness one_sided;
  one_sided.open();
  one_sided.recv("\x81" + std::string(4096, 'x'));
  EXPECT_EQ(one_sided.policy.quiets, 1);
}

// A first message that looks like MongoDB's and says it is long, on a connection of HTTP.
TEST(Tracker, TheSkipOfAProtocolThatWasWrong) {
  Harness h;
  h.open(Role::unknown);
  constexpr char kFind[] =
      "\x00\x00\x10\x00\x01\x00\x00\x00\x00\x00\x00\x00\xdd\x07\x00\x00\x00\x00\x00\x00"
      "\x00\xeb\xff\x0f\x00\x02"
      "find\x00\x02\x00\x00\x00"
      "a\x00\x05"
      "b\x00\x00\xff"
      "\x0f\x00\x00";
  std::string find(kFind, sizeof kFind - 1);
  find.resize(4096, 'x');
  h.recv(find);
  EXPECT_EQ(h.sink.open, 1);
  EXPECT_GT(h.policy.skipped_to[0], 0x000f0000u);
  h.send(kOk);
  EXPECT_EQ(h.policy.skipped_to[0], 0u);
  h.recv(kGet);
  h.send(kOk);
  h.close();
  ASSERT_EQ(h.sink.done.size(), 2u);
  EXPECT_EQ(h.sink.done[0].incomplete, "another protocol");
  EXPECT_EQ(h.sink.done[1].name, "GET");
}

TEST(Tracker, AProtocolSaysHowMuchOfACallItReads) {
  Harness h;
  h.open();
  h.recv(kGet);
  EXPECT_EQ(h.policy.limit, 4096u);
  Harness redis;
  redis.open();
  redis.recv("*1\r\n$4\r\nPING\r\n");
  EXPECT_GE(redis.policy.limit, 16384u);
}

TEST(Tracker, FoldedHeaderIsRefused) {
  Harness h;
  h.open();
  h.recv(kGet);
  h.send(kOk);
  h.recv("GET /f HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n");
  h.send("HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n");
  h.recv(kGet);
  h.send(kOk);
  h.close();
  EXPECT_EQ(h.sink.done.size(), 2u);
}

TEST(Tracker, OwnPeerIsIgnored) {
  for (const bool own_first : {true, false}) {
    Harness h;
    OpenEvent own;
    own.sock = 2;
    own.time = h.now;
    own.own = true;
    own.identity = {22, 11};
    if (own_first) h.tracker.on_open(own);
    h.open();
    if (!own_first) h.tracker.on_open(own);
    h.recv(kGet);
    h.send(kOk);
    EXPECT_EQ(h.sink.done.size(), 0u);
    EXPECT_EQ(h.tracker.bytes(Direction::recv).seen, 0u);
  }
}

TEST(Tracker, UnobservedProcess) {
  Harness h;
  h.move(Direction::recv, kGet, kGet.size(), 666);
  EXPECT_EQ(h.policy.quiets, 0);  // an observed process may use the socket next
  EXPECT_EQ(h.tracker.bytes(Direction::recv).seen, 0u);
}

// accept() in a parent that is not observed, served by a child that is.
TEST(Tracker, PassedOnToAnObservedProcess) {
  for (const bool opened : {true, false}) {
    Harness h;
    if (opened) {
      h.opener = 666;
      h.open();
    }
    h.move(Direction::recv, kGet, kGet.size(), 666);
    h.move(Direction::send, kOk, kOk.size(), 666);
    EXPECT_EQ(h.sink.opens, 0);
    EXPECT_EQ(h.tracker.bytes(Direction::recv).seen, 0u);
    h.recv(kGet);
    h.send(kOk);
    h.recv(kGet);
    h.send(kOk);
    h.close();
    EXPECT_EQ(h.sink.opens, 1);
    ASSERT_GE(h.sink.done.size(), 1u);
    EXPECT_EQ(h.sink.done.back().status_code(), 200);
    EXPECT_EQ(h.tracker.bytes(Direction::recv).seen, 2 * kGet.size());
  }
}

TEST(Tracker, OpenAfterTheFirstBytes) {
  Harness h;
  h.recv(kGet);
  const auto at = h.at;
  h.open();  // the harness sets the position back to its own
  h.at = at;
  h.send(kOk);
  h.recv(kGet);
  h.send(kOk);
  h.close();
  ASSERT_EQ(h.sink.done.size(), 2u);
  EXPECT_EQ(h.sink.done[1].text.at("client.address"), "10.0.0.9");
  EXPECT_EQ(h.sink.opens, h.sink.closes);
}

TEST(Tracker, OpenTwice) {
  Harness h;
  h.open();
  h.recv(kGet);
  const auto at = h.at;
  h.open();  // repeated: the same connection
  h.at = at;
  h.send(kOk);
  EXPECT_EQ(h.sink.opens, 1);
  EXPECT_EQ(h.sink.done.size(), 1u);
  h.recv(kGet);
  h.identity = {33, 44};  // another connection under the same id: the CLOSE between was lost
  h.open();
  EXPECT_EQ(h.sink.opens, 2);
  ASSERT_EQ(h.sink.done.size(), 2u);
  EXPECT_EQ(h.sink.done[1].incomplete, "connection closed");
  h.recv(kGet);
  h.send(kOk);
  h.close();
  ASSERT_EQ(h.sink.done.size(), 3u);
  EXPECT_EQ(h.sink.done[2].status_code(), 200);
}

TEST(Tracker, CloseAfterExitAndWithoutOpen) {
  Harness h;
  h.open();
  h.recv(kGet);
  h.tracker.on_process_exit(100, h.now);
  h.tracker.on_process_exit(100, h.now);
  h.close();
  ASSERT_EQ(h.sink.done.size(), 1u);
  EXPECT_EQ(h.sink.done[0].incomplete, "connection closed");
  h.close();  // once more: nobody there
  h.recv("");
  EXPECT_EQ(h.sink.done.size(), 1u);
  h.close();
}

// A UNIX socket may have no CLOSE: with its process gone it ages out.
TEST(Tracker, UnixSocketWithoutCloseAgesOut) {
  Harness h;
  OpenEvent e;
  e.time = h.now;
  e.sock = 1;
  e.task.pid = 100;
  e.local.family = Family::unix_stream;
  e.path = "/run/app.sock";
  h.tracker.on_open(e);
  h.recv(kGet);
  h.tracker.on_process_exit(100, h.now);
  h.advance(62 * kSecond);
  ASSERT_EQ(h.sink.done.size(), 1u);
  EXPECT_EQ(h.sink.done[0].incomplete, "timeout");
  EXPECT_EQ(h.tracker.connections(), 1u);
  h.advance(600 * kSecond);
  EXPECT_EQ(h.tracker.connections(), 0u);
  EXPECT_EQ(h.tracker.bytes(Direction::recv).pending(), 0u);
}

// More unanswered requests than anybody pipelines: the connection is open, and not closed.
TEST(Tracker, EndlessPipelineIsUnreadable) {
  Harness h;
  h.open();
  for (int i = 0; i < 1025; ++i) h.recv(kGet);
  ASSERT_EQ(h.sink.done.size(), 1024u);
  EXPECT_EQ(h.sink.done[0].incomplete, "unreadable");
  EXPECT_FALSE(h.sink.done[0].text.contains("error.type"));
  EXPECT_EQ(h.policy.quiets, 1);
}

TEST(Tracker, ExchangeOfAnOwnPeerDoesNotSayThatTheAgentStopped) {
  Harness h;
  h.open();
  h.recv(kGet);
  OpenEvent own;
  own.sock = 2;
  own.time = h.now;
  own.own = true;
  own.identity = {22, 11};
  h.tracker.on_open(own);
  ASSERT_EQ(h.sink.done.size(), 1u);
  EXPECT_EQ(h.sink.done[0].incomplete, "not observed");
}

}  // namespace
}  // namespace olly::conntrack
