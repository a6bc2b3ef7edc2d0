#include "protocol/redis/parse.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "protocol/redis/detect.h"
#include "protocol/redis/protocol.h"
#include "protocol/redis/text.h"

namespace olly::redis {
namespace {

// What a reader made of `text`, handed over in pieces of `piece` bytes. done only when it ended
// with the last byte.
Read read_reply(std::string_view text, std::size_t piece, ReplyReader& reader) {
  std::size_t at = 0;
  std::uint64_t skipping = 0;
  for (std::size_t have = 0; have < text.size();) {
    have = std::min(text.size(), have + piece);
    for (;;) {
      const std::size_t n = std::min<std::uint64_t>(skipping, have - at);
      at += n;
      skipping -= n;
      if (skipping > 0) break;
      std::size_t used = 0;
      const Read r = reader.read(as_bytes(text.substr(at, have - at)), used, skipping);
      at += used;
      if (r == Read::done) return at == text.size() ? r : Read::invalid;
      if (r == Read::invalid) return r;
      if (r == Read::need_more) break;
    }
  }
  return Read::need_more;
}

struct Sink final : ExchangeSink {
  std::vector<std::unique_ptr<Exchange>> all;
  std::size_t finished = 0;
  Exchange* begin(const Connection&, Side, std::uint64_t, const IoMark&) noexcept override {
    return all.emplace_back(std::make_unique<Exchange>()).get();
  }
  void request(Exchange&) noexcept override {}
  void finish(Exchange* x) noexcept override { finished += x != nullptr ? 1 : 0; }
  void activity(const Connection&, const IoEvent&, Exchange*) noexcept override {}
  void connecting(const ConnectEvent&) noexcept override {}
  void opened(const Connection&) noexcept override {}
  void closed(const Connection&, Nanos) noexcept override {}
};

// Whether a connection that begins with `text` accepts all of it, as commands.
bool accepts_request(std::string_view text, std::size_t& commands) {
  Sink sink;
  Connection connection;
  connection.role = olly::Role::inbound;
  const auto protocol = make_protocol();
  const auto parser = protocol->open(connection, sink, {true, true}, false);
  reassembly::MarkRange mark;
  mark.mark.time = kSecond;
  std::size_t at = 0;
  bool good = true;
  for (int i = 0; good && i < 100; ++i) {
    const Window w{at, as_bytes(text.substr(at)), {&mark, 1}};
    const ParseResult r = parser->parse(Direction::recv, w);
    at += r.consumed + r.skip;
    good = at <= text.size() && r.status != ParseStatus::invalid &&
           r.status != ParseStatus::opaque && r.status != ParseStatus::discard;
    if (r.status == ParseStatus::need_more) break;
  }
  parser->end(EndReason::closed, kSecond, 0);
  EXPECT_EQ(sink.finished, sink.all.size());
  commands = sink.all.size();
  return good && at == text.size();
}

TEST(RedisParse, Testdata) {
  int files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(OLLY_SOURCE_DIR "/src/protocol/redis/testdata")) {
    std::ifstream in(entry.path(), std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    const std::string name = entry.path().filename();
    ++files;
    if (name.find("request") != std::string::npos) {
      std::size_t commands = 0;
      EXPECT_EQ(accepts_request(text, commands), name.starts_with("y_")) << name;
      EXPECT_TRUE(commands > 0 || name.starts_with("n_")) << name;
      continue;
    }
    for (const std::size_t piece : {text.size(), std::size_t{1}, std::size_t{3}}) {
      ReplyReader reader;
      const Read expected = name.starts_with("y_") ? Read::done : Read::invalid;
      EXPECT_EQ(read_reply(text, piece, reader), expected) << name << " by " << piece;
    }
    for (std::size_t n = 0; n < text.size() && name.starts_with("y_"); ++n) {
      ReplyReader reader;
      EXPECT_EQ(read_reply(text.substr(0, n), text.size(), reader), Read::need_more)
          << name << " cut at " << n;
    }
  }
  EXPECT_GE(files, 70);
}

TEST(RedisParse, WhatAReplySays) {
  ReplyReader r;
  EXPECT_EQ(read_reply("-WRONGTYPE Operation\r\n", 1, r), Read::done);
  EXPECT_EQ(r.error_code(), "WRONGTYPE");
  r.begin();
  EXPECT_EQ(read_reply("!9\r\nSYNTAX no\r\n", 1, r), Read::done);
  EXPECT_EQ(r.error_code(), "SYNTAX");
  for (const char* no_code : {"-lower case\r\n", "-\r\n", "- X\r\n",
                              "-ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLMNOPQRSTUVWXYZ x\r\n"}) {
    r.begin();
    EXPECT_EQ(read_reply(no_code, 1, r), Read::done);
    EXPECT_TRUE(r.is_error());
    EXPECT_EQ(r.error_code(), "") << no_code;
  }
  r.begin();
  EXPECT_EQ(read_reply("*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n", 2, r), Read::done);
  EXPECT_EQ(r.kind(), Kind::unsubscribe);
  EXPECT_EQ(r.count(), 3);
  EXPECT_EQ(r.last_integer(), 0);
  r.begin();
  EXPECT_EQ(read_reply("|1\r\n+a\r\n-ERR x\r\n+QUEUED\r\n", 5, r), Read::done);
  EXPECT_EQ(r.word(), Word::queued);
  EXPECT_FALSE(r.is_error());
}

std::string text_of(const std::vector<std::string>& words) {
  CommandText t;
  t.begin(static_cast<std::int64_t>(words.size()));
  for (const std::string& word : words) {
    if (t.wants(word.size()))
      t.argument(word);
    else
      t.masked();
  }
  return std::string(t.text());
}

TEST(RedisText, KeysAreKeptAndNothingElse) {
  EXPECT_EQ(text_of({"SET", "k", "v", "EX", "1"}), "SET k ? ? ?");
  EXPECT_EQ(text_of({"mset", "a", "1", "b", "2"}), "mset a ? b ?");
  EXPECT_EQ(text_of({"GET", "a b"}), "GET \"a b\"");
  EXPECT_EQ(text_of({"GET", "h\xc3\xa9"}), "GET h\xc3\xa9");
  EXPECT_EQ(text_of({"SINTERCARD", "9999", "a", "b"}), "SINTERCARD ? a b");
  EXPECT_EQ(text_of({"SINTERCARD", "-1", "a"}), "SINTERCARD ? ?");
  EXPECT_EQ(text_of({"SINTERCARD", "x", "a"}), "SINTERCARD ? ?");
  EXPECT_EQ(text_of({"XREADGROUP", "GROUP", "streams", "c", "STREAMS", "s", ">"}),
            "XREADGROUP ? ? ? ? s ?");
  EXPECT_EQ(text_of({"EVAL", "return", "1", "k"}), "EVAL ? ? ?");
  EXPECT_EQ(text_of({"config", "set", "requirepass", "x"}), "config set ? ?");
  EXPECT_EQ(text_of({"a b", "x"}), "? ?");
  EXPECT_EQ(text_of({std::string(65, 'A')}), "?");
  EXPECT_EQ(text_of({"GET", std::string(kMaxKey, 'k')}).size(), 4 + kMaxKey);
  EXPECT_EQ(text_of({"GET", std::string(kMaxKey + 1, 'k')}), "GET ?");
  EXPECT_EQ(text_of({"BLPOP"}), "BLPOP");
}

TEST(RedisText, InlineWords) {
  std::vector<std::string> words;
  const auto take = [&](std::string_view w) { words.emplace_back(w); };
  EXPECT_TRUE(split_inline(R"( set  "a \" b" 'c d' )", take));
  EXPECT_EQ(words, (std::vector<std::string>{"set", "a \\\" b", "c d"}));
  for (const char* bad : {"a \"b", "a 'b", "a \"b\"c", "a \"b\\"})
    EXPECT_FALSE(split_inline(bad, take));
}

Verdict line(std::string_view text) {
  const Probe* probe = nullptr;
  return looks_like_inline(as_bytes(text), probe);
}

TEST(RedisDetect, CommandsAlone) {
  EXPECT_EQ(looks_like_command(as_bytes("*1\r\n$4\r\nPING\r\n")), Verdict::yes);
  EXPECT_EQ(looks_like_command(as_bytes("*2\r\n$5\r\nX.GET\r\n")), Verdict::maybe);
  for (const char* part :
       {"", "*", "*1", "*1\r", "*1\r\n", "*1\r\n$4\r\nPI", "*1\r\n$4\r\nPING\r"}) {
    EXPECT_EQ(looks_like_command(as_bytes(part)), Verdict::need_more) << part;
  }
  for (const char* no :
       {"+OK\r\n", "*0\r\n", "*1\r\n:1\r\n", "*1\r\n$3\r\na b\r\n", "* OK IMAP\r\n",
        "*1\r\n$4\r\nPINGX", "*1\r\n$99\r\n", "-ERR\r\n", "$3\r\nfoo\r\n"}) {
    EXPECT_EQ(looks_like_command(as_bytes(no)), Verdict::no) << no;
  }
  EXPECT_EQ(line("PING\r\n"), Verdict::maybe);
  EXPECT_EQ(line("get a\n"), Verdict::maybe);
  EXPECT_EQ(line("PIN"), Verdict::need_more);
  EXPECT_EQ(line("GET /x"), Verdict::need_more);
  for (const char* no : {"QUIT\r\n", "AUTH x\r\n", "USER x\r\n", "GET / HTTP/1.1\r\n", "get\r\n",
                         "set k 0 0 5\r\n", "HELP\r\n", "EHLO x\r\n", "PUT", "ge\x01t x\r\n"}) {
    EXPECT_EQ(line(no), Verdict::no) << no;
  }
}

TEST(RedisDetect, RepliesThatProve) {
  const auto proves = [](std::string_view request, std::string_view reply) {
    const Probe* probe = nullptr;
    EXPECT_EQ(looks_like_inline(as_bytes(request), probe), Verdict::maybe);
    return probe != nullptr ? fits(*probe, as_bytes(reply)) : Verdict::no;
  };
  EXPECT_EQ(proves("PING\r\n", "+PONG\r\n"), Verdict::yes);
  EXPECT_EQ(proves("PING\r\n", "+PO"), Verdict::need_more);
  EXPECT_EQ(proves("PING\r\n", "PONG\r\n"), Verdict::no);
  EXPECT_EQ(proves("PING\r\n", "+OK\r\n"), Verdict::no);
  EXPECT_EQ(proves("GET a\r\n", "$3\r\nfoo"), Verdict::yes);
  EXPECT_EQ(proves("GET a\r\n", "END\r\n"), Verdict::no);
  EXPECT_EQ(proves("GET a\r\n", "-NOAUTH Authentication required.\r\n"), Verdict::yes);
  EXPECT_EQ(proves("GET a\r\n", "-ERR x\r\n"), Verdict::no);
}

}  // namespace
}  // namespace olly::redis
