#include "protocol/mysql/parse.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "protocol/mysql/statements.h"

namespace olly::mysql {
namespace {

ByteView bytes(const std::string& text) { return as_bytes(text); }

// What the file's name says the payload is. `length` is the whole payload's.
ParseError verdict(const std::string& name, ByteView p, std::uint32_t length) {
  if (name.find("greeting") != std::string::npos) {
    Greeting out;
    return parse_greeting(p, length, out);
  }
  if (name.find("login") != std::string::npos) {
    Login out;
    return parse_login(p, length, ~std::uint64_t{0}, out);
  }
  if (name.find("prepare") != std::string::npos) {
    PrepareOk out;
    return parse_prepare_ok(p, length, out);
  }
  if (name.find("columns") != std::string::npos) {
    ColumnCount out;
    return parse_column_count(p, length, out);
  }
  if (name.find("err") != std::string::npos) {
    Err out;
    return parse_err(p, out);
  }
  if (name.find("command") != std::string::npos) {
    return plausible_command(p, length) ? ParseError::none : ParseError::invalid;
  }
  Ok out;
  return parse_ok(p, true, out);
}

// y_*: accepted; n_*: refused. No prefix of a refused one is accepted as if it were whole, where
// the parser knows the length.
TEST(MysqlParse, Testdata) {
  int files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(OLLY_SOURCE_DIR "/src/protocol/mysql/testdata")) {
    std::ifstream in(entry.path(), std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    const std::string name = entry.path().filename();
    const auto length = static_cast<std::uint32_t>(text.size());
    const ParseError error = verdict(name, bytes(text), length);
    EXPECT_EQ(error == ParseError::none, name.starts_with("y_")) << name;
    for (std::size_t n = 0; n < text.size(); ++n) {
      const std::string cut = text.substr(0, n);
      const ParseError e = verdict(name, bytes(cut), length);
      if (name.starts_with("y_greeting") || name.starts_with("y_prepare")) {
        EXPECT_EQ(e, ParseError::incomplete) << name << " cut at " << n;
      }
    }
    ++files;
  }
  EXPECT_GE(files, 30);
}

TEST(MysqlParse, Lenenc) {
  struct Case {
    std::string bytes;
    std::optional<std::uint64_t> value;
    std::size_t at;
  };
  const Case cases[] = {
      {{"\xfa", 1}, 0xfa, 1},
      {{"\xfc\x01\x02", 3}, 0x201, 3},
      {{"\xfd\x01\x02\x03", 4}, 0x30201, 4},
      {{"\xfe\1\0\0\0\0\0\0\x80", 9}, 0x8000000000000001, 9},
      {{"\xfb", 1}, std::nullopt, 0},
      {{"\xff", 1}, std::nullopt, 0},
      {{"\xfc\x01", 2}, std::nullopt, 0},
      {{}, std::nullopt, 0},
  };
  for (const Case& c : cases) {
    std::size_t at = 0;
    EXPECT_EQ(lenenc(bytes(c.bytes), at), c.value);
    EXPECT_EQ(at, c.at);
  }
  std::size_t beyond = 5;
  EXPECT_EQ(lenenc(bytes("a"), beyond), std::nullopt);
}

TEST(MysqlParse, OkTellsTheSchema) {
  const std::string ok("\0\x02\0\x02\x40\0\0\x01i\x0e\x03\x02\x01x\x01\x05\x04shop\x02\x01\x31",
                       24);
  Ok out;
  ASSERT_EQ(parse_ok(bytes(ok), true, out), ParseError::none);
  EXPECT_EQ(out.affected_rows, 2u);
  EXPECT_TRUE(out.schema_changed);
  EXPECT_EQ(out.schema, "shop");
  Ok untracked;
  ASSERT_EQ(parse_ok(bytes(ok), false, untracked), ParseError::none);
  EXPECT_FALSE(untracked.schema_changed);
  for (std::size_t n = 7; n < ok.size(); ++n) {
    Ok cut;
    EXPECT_EQ(parse_ok(bytes(ok.substr(0, n)), true, cut), ParseError::none);
    EXPECT_FALSE(cut.schema_changed) << n;
    EXPECT_TRUE(cut.schema_unclear) << n;
  }
}

TEST(MysqlParse, ErrHasItsNumberAndState) {
  Err out;
  const std::string err("\xff\x7a\x04#42S02Table", 14);
  ASSERT_EQ(parse_err(bytes(err), out), ParseError::none);
  EXPECT_EQ(out.number, 1146);
  EXPECT_EQ(out.sqlstate, "42S02");
  EXPECT_FALSE(out.progress);
  ASSERT_EQ(parse_err(bytes("\xff\xff\xff\x01"), out), ParseError::none);
  EXPECT_TRUE(out.progress);
}

TEST(MysqlParse, EveryCommandHasItsAnswer) {
  int with_name = 0;
  for (int c = 0; c < 256; ++c) {
    const auto code = static_cast<std::uint8_t>(c);
    const bool named = !name_of(static_cast<Command>(code)).empty();
    with_name += named ? 1 : 0;
    if (answer_of(code) == Answer::unknown || answer_of(code) == Answer::none) {
      EXPECT_FALSE(named) << c;
    }
  }
  EXPECT_EQ(with_name, 20);
  EXPECT_EQ(answer_of(0x1a), Answer::simple);
  EXPECT_EQ(answer_of(0xfe), Answer::unknown);
}

TEST(MysqlParse, QueryAttributes) {
  const auto at = [](const std::string& p) { return query_text_at(bytes(p)); };
  EXPECT_EQ(at({"\x03\0\1SELECT", 9}), 3u);
  // One parameter of every type, then the text.
  for (const auto& [type, value] :
       std::initializer_list<std::pair<char, std::string>>{{1, "a"},
                                                           {2, "ab"},
                                                           {3, "abcd"},
                                                           {4, "abcd"},
                                                           {5, "abcdefgh"},
                                                           {8, "abcdefgh"},
                                                           {7, {"\x04wxyz", 5}},
                                                           {12, {"\0", 1}},
                                                           {13, "ab"},
                                                           {'\xfe', {"\x03txt", 4}}}) {
    std::string p("\x03\1\1\0\1", 5);
    p += type;
    p += std::string("\0\1n", 3) + value;
    EXPECT_EQ(at(p + "SELECT"), p.size()) << static_cast<int>(type);
    EXPECT_EQ(at(p.substr(0, p.size() - 1)), std::nullopt) << static_cast<int>(type);
  }
  EXPECT_EQ(at("\x03SELECT"), std::nullopt);
  EXPECT_EQ(at({"\x03\1\2\0\1", 5}), std::nullopt);
  EXPECT_EQ(at({"\x03\xfc\xff\xff\1", 5}), std::nullopt);
}

TEST(MysqlParse, WhatAQueryDoesToTheDatabase) {
  EXPECT_EQ(database_effect("USE shop").database, "shop");
  EXPECT_EQ(database_effect(" use `a b` ; ").database, "a b");
  EXPECT_EQ(database_effect("SELECT 'use'").unclear, false);
  EXPECT_EQ(database_effect("SELECT 1").database, "");
  for (const char* unclear : {"use a; select 1", "/* */ USE x", "-- a\nUSE x", "DROP DATABASE a",
                              "drop schema a", "USE", "use 'a'"}) {
    EXPECT_TRUE(database_effect(unclear).unclear) << unclear;
    EXPECT_TRUE(database_effect(unclear).database.empty()) << unclear;
  }
  EXPECT_TRUE(database_effect("SELECT 1; USE x").if_several);
  EXPECT_FALSE(database_effect("SELECT 1; USE x").unclear);
  for (const char* clear :
       {"SELECT 1; SELECT 2", "DROP TABLE t", "user", "", "SELECT a FROM use_t"}) {
    EXPECT_FALSE(database_effect(clear).unclear || database_effect(clear).if_several) << clear;
  }
}

TEST(MysqlStatements, AreBounded) {
  Statements table;
  const auto make = [](std::size_t size) {
    return std::make_shared<const Statement>(Statement{std::string(size, 'x'), "s"});
  };
  for (std::uint32_t id = 1; id <= 5000; ++id) {
    table.put(id, make(10));
    EXPECT_NE(table.find(1), nullptr) << "what is used stays";
  }
  EXPECT_EQ(table.size(), kMaxStatements);
  EXPECT_EQ(table.find(2), nullptr);
  EXPECT_NE(table.find(5000), nullptr);
  for (std::uint32_t id = 10'000; id < 10'200; ++id) table.put(id, make(2000));
  EXPECT_LE(table.memory(), kMaxStatementBytes + 2 * kMaxStatements * 64);
  table.erase(10'199);
  EXPECT_EQ(table.find(10'199), nullptr);
  table.put(7, make(kMaxStatementBytes));
  EXPECT_EQ(table.find(7), nullptr);
  table.clear();
  EXPECT_EQ(table.size(), 0u);
}

}  // namespace
}  // namespace olly::mysql
