#include "protocol/postgresql/parse.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <string>

#include "protocol/postgresql/protocol.h"
#include "protocol/postgresql/statements.h"

namespace olly::postgresql {
namespace {

Error verdict(std::string_view name, ByteView bytes) {
  if (name.find("_first_") != std::string_view::npos) {
    Startup startup;
    return parse_first(bytes, startup);
  }
  const bool front = name.find("_front_") != std::string_view::npos;
  return parse_turn(bytes, front ? Sender::frontend : Sender::backend);
}

TEST(PostgresqlParse, Testdata) {
  int files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(OLLY_SOURCE_DIR "/src/protocol/postgresql/testdata")) {
    std::ifstream in(entry.path(), std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    const std::string name = entry.path().filename();
    const bool accept = name.starts_with("y_");
    EXPECT_EQ(verdict(name, as_bytes(text)), accept ? Error::none : Error::invalid) << name;
    // Pipelined turns are accepted at each turn's end.
    for (std::size_t n = 0; accept && n < text.size(); ++n) {
      EXPECT_NE(verdict(name, as_bytes(std::string_view(text).substr(0, n))), Error::invalid)
          << name << " cut at " << n;
    }
    ++files;
  }
  EXPECT_GE(files, 35);
}

TEST(PostgresqlParse, StartupNamesTheDatabase) {
  constexpr std::string_view kNamed("\0\0\0\x20\0\3\0\0user\0bob\0database\0shop\0\0", 32);
  constexpr std::string_view kUser("\0\0\0\x12\0\3\0\0user\0bob\0\0", 18);
  Startup startup;
  ASSERT_EQ(parse_first(as_bytes(kNamed), startup), Error::none);
  EXPECT_EQ(startup.user, "bob");
  EXPECT_EQ(startup.database, "shop");
  EXPECT_EQ(startup.size, kNamed.size());
  ASSERT_EQ(parse_first(as_bytes(kUser), startup), Error::none);
  EXPECT_EQ(startup.database, "bob");
}

TEST(PostgresqlParse, HeaderRefusesEarly) {
  Header h;
  EXPECT_EQ(parse_header(as_bytes("P"), Sender::frontend, h), Error::incomplete);
  EXPECT_EQ(parse_header(as_bytes("PO"), Sender::frontend, h), Error::invalid);  // POST
  EXPECT_EQ(parse_header(as_bytes("T"), Sender::frontend, h), Error::invalid);
  EXPECT_EQ(parse_header(as_bytes("T"), Sender::backend, h), Error::incomplete);
  EXPECT_EQ(parse_header(as_bytes("Z"), Sender::frontend, h), Error::invalid);
}

TEST(PostgresqlParse, ErrorFields) {
  constexpr std::string_view kError("SFEHLER\0VERROR\0C42P01\0Mno \0\0", 29);
  ErrorFields e = parse_error(as_bytes(kError));
  EXPECT_EQ(e.code, "42P01");
  EXPECT_FALSE(e.fatal);
  EXPECT_EQ(parse_error(as_bytes(kError.substr(0, 20))).code, "");
  constexpr std::string_view kFatal("SFATAL\0C57P01\0\0", 15);
  EXPECT_TRUE(parse_error(as_bytes(kFatal)).fatal);
  constexpr std::string_view kOdd("C42 01\0\0", 8);
  EXPECT_EQ(parse_error(as_bytes(kOdd)).code, "");
}

// What other protocols begin with is not taken for this one.
TEST(PostgresqlDetect, OthersAreRefused) {
  const auto protocol = make_protocol();
  const auto refused = [&](std::string_view text) {
    return protocol->detect(Direction::recv, as_bytes(text)) == Verdict::no;
  };
  EXPECT_TRUE(refused("GET / HTTP/1.1\r\n"));
  EXPECT_TRUE(refused("POST / HTTP/1.1\r\n"));
  EXPECT_TRUE(refused("HTTP/1.1 200 OK\r\n"));
  EXPECT_TRUE(refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
  EXPECT_TRUE(refused("*1\r\n$4\r\nPING\r\n"));
  EXPECT_TRUE(refused("+OK POP3 ready\r\n"));
  EXPECT_TRUE(refused("* OK IMAP4rev1\r\n"));
  EXPECT_TRUE(refused("220 mail ESMTP\r\n"));
  EXPECT_TRUE(refused("EHLO client\r\n"));
  EXPECT_TRUE(refused("SSH-2.0-OpenSSH\r\n"));
  EXPECT_TRUE(refused(std::string_view("\x16\x03\x01\x02\x00\x01", 6)));
  EXPECT_TRUE(refused(std::string_view("\0\0\0\x2d\0\0\0\0\0\0\0\0", 12)));  // ZooKeeper
  EXPECT_TRUE(
      refused(std::string_view("\x4a\0\0\0\x0a"
                               "8.0.36\0",
                               12)));  // MySQL
}

TEST(PostgresqlDetect, NoFalsePositiveAmongGeneratedMessages) {
  const auto protocol = make_protocol();
  std::mt19937_64 random(5);  // NOLINT(bugprone-random-generator-seed): the same every time
  std::string text;
  int found = 0;
  for (int i = 0; i < 200000; ++i) {
    const std::size_t size = 5 + random() % 60;
    text.resize(size);
    for (char& c : text) c = static_cast<char>(random());
    switch (i % 4) {
      case 0:  // a length in front, of all or of what follows
        text[0] = text[1] = text[2] = 0;
        text[3] = static_cast<char>(i % 8 == 0 ? size : size - 4);
        break;
      case 1:  // a type and a length
        text[0] = static_cast<char>('A' + random() % 58);
        text[1] = text[2] = text[3] = 0;
        text[4] = static_cast<char>(i % 8 == 1 ? size - 1 : size - 5);
        break;
      case 2:  // the same with text in it
        text[0] = static_cast<char>('A' + random() % 58);
        text[1] = text[2] = text[3] = 0;
        text[4] = static_cast<char>(size - 1);
        for (std::size_t n = kHeader; n < size; ++n) text[n] = static_cast<char>('a' + n % 26);
        break;
      default:
        break;
    }
    const Verdict v = protocol->detect(Direction::recv, as_bytes(text));
    const bool taken = v == Verdict::yes || v == Verdict::maybe;
    EXPECT_FALSE(taken) << i << ' ' << ::testing::PrintToString(text);
    found += taken;
  }
  EXPECT_EQ(found, 0);
}

TEST(PostgresqlStatements, BoundedByNumberAndBytes) {
  NameTable table(3, 1 << 20);
  const auto statement = [](std::string_view summary) {
    auto s = std::make_shared<Statement>();
    s->query.summary = summary;
    return s;
  };
  table.put("a", statement("A"));
  table.put("b", statement("B"));
  const std::uint32_t c = table.put("c", statement("C"));
  ASSERT_TRUE(table.find("a"));
  table.put("d", statement("D"));
  EXPECT_FALSE(table.find("b")) << "not used for longest";
  EXPECT_EQ(table.find("a")->query.summary, "A");
  table.put("c", statement("C2"));
  table.erase(c);
  EXPECT_EQ(table.find("c")->query.summary, "C2") << "another entry by that name";
  table.erase("c");
  EXPECT_FALSE(table.find("c"));
  table.clear();
  EXPECT_TRUE(table.empty());

  NameTable small(100, 4096);
  for (int i = 0; i < 50; ++i) {
    auto s = std::make_shared<Statement>();
    s->query.text.assign(1000, 'x');
    small.put(std::to_string(i), s);
  }
  EXPECT_LE(small.bytes(), 4096u + 100 * 64);
  EXPECT_TRUE(small.find("49"));
  EXPECT_FALSE(small.find("0"));
}

}  // namespace
}  // namespace olly::postgresql
