// Messages as testdata/ has them (tests/replay/generate_mongodb.py wrote them with other people's
// BSON and compressors), whole and cut off anywhere; and what only looks like them.
#include "protocol/mongodb/parse.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <string>

#include "protocol/mongodb/bson.h"
#include "protocol/mongodb/decompress.h"

namespace olly::mongodb {
namespace {

std::map<std::string, std::string> testdata() {
  std::map<std::string, std::string> all;
  for (const auto& entry :
       std::filesystem::directory_iterator(OLLY_SOURCE_DIR "/src/protocol/mongodb/testdata")) {
    std::ifstream file(entry.path(), std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    all[entry.path().filename()] = text.str();
  }
  return all;
}

// A message and what is wanted of it, as a connection would ask.
struct Read {
  Read(const std::string& bytes, bool request) {
    if (look_at_header(as_bytes(bytes), header) != Start::yes) return;
    ByteView body = as_bytes(bytes).subspan(kHeader);
    std::size_t size = header.length - kHeader;
    Opcode opcode = header.opcode;
    if (opcode == Opcode::compressed) {
      Compressed packed;
      if (parse_compressed(body, packed) != MessageError::none) return;
      body = decompressor.prefix(packed);
      size = packed.size;
      opcode = packed.opcode;
    }
    error = request ? parse_command(opcode, body, size, command)
                    : parse_reply(opcode, body, size, command_reply, reply);
  }
  Decompressor decompressor;
  Header header;
  MessageError error = MessageError::invalid;
  bool command_reply = true;
  Command command;
  Reply reply;
};

struct Want {
  const char* operation;
  const char* collection;
  const char* database;
  std::uint64_t statements = 0;
};
const std::map<std::string, Want> kRequests = {
    {"find", {"find", "items", "shop"}},
    {"find_checksum", {"find", "items", "shop"}},
    {"find_noop", {"find", "items", "shop"}},
    {"find_snappy", {"find", "items", "shop"}},
    {"find_zlib", {"find", "items", "shop"}},
    {"find_zstd", {"find", "items", "shop"}},
    {"insert_sequence", {"insert", "items", "shop", 3}},
    {"insert_noop", {"insert", "items", "shop", 3}},
    {"insert_snappy", {"insert", "items", "shop", 3}},
    {"insert_zlib", {"insert", "items", "shop", 3}},
    {"insert_zstd", {"insert", "items", "shop", 3}},
    {"insert_sequence_first", {"insert", "items", "shop", 2}},
    {"insert_inline", {"insert", "items", "shop", 2}},
    {"insert_unacknowledged", {"insert", "items", "shop", 1}},
    {"update", {"update", "items", "shop", 2}},
    {"delete", {"delete", "items", "shop", 4}},
    {"get_more", {"getMore", "items", "shop"}},
    {"get_more_exhaust", {"getMore", "items", "shop"}},
    {"aggregate_database", {"aggregate", "", "admin"}},
    {"explain", {"explain", "items", "shop"}},
    {"bulk_write", {"bulkWrite", "", "admin", 2}},
    {"all_types", {"find", "items", "shop"}},
    {"hello_query", {"ismaster", "", "admin"}},
    {"sasl", {"saslStart", "", "admin"}},
    {"create_user", {"createUser", "", "admin"}},
    {"legacy_find", {"find", "items", "shop"}},
    {"legacy_wrapped", {"count", "items", "shop"}},
    {"legacy_get_more", {"getMore", "items", "shop"}},
    {"legacy_insert", {"insert", "items", "shop", 2}},
    {"legacy_update", {"update", "items", "shop"}},
    {"legacy_delete", {"delete", "items", "shop"}},
    {"legacy_kill", {"killCursors", "", ""}},
};

TEST(MongodbParse, Requests) {
  std::size_t seen = 0;
  for (const auto& [name, bytes] : testdata()) {
    if (!name.starts_with("y_request_")) continue;
    const auto want = kRequests.find(name.substr(10));
    ASSERT_NE(want, kRequests.end()) << name;
    const Read r(bytes, true);
    EXPECT_EQ(r.error, MessageError::none) << name;
    EXPECT_EQ(r.command.operation, want->second.operation) << name;
    EXPECT_EQ(r.command.collection, want->second.collection) << name;
    EXPECT_EQ(r.command.database, want->second.database) << name;
    EXPECT_EQ(r.command.statements, want->second.statements) << name;
    const bool handshake = name.ends_with("hello_query") || name.ends_with("sasl");
    EXPECT_EQ(r.command.handshake, handshake) << name;
    ++seen;
  }
  EXPECT_EQ(seen, kRequests.size());
}

TEST(MongodbParse, Replies) {
  const auto all = testdata();
  const auto read = [&](const std::string& name, bool command = true) {
    const std::string& bytes = all.at("y_reply_" + name);
    Read r(bytes, false);
    if (!command) {
      r.error = parse_reply(r.header.opcode, as_bytes(bytes).subspan(kHeader),
                            r.header.length - kHeader, false, r.reply);
    }
    EXPECT_EQ(r.error, MessageError::none) << name;
    return r.reply;
  };
  for (const char* how : {"", "_noop", "_snappy", "_zlib", "_zstd"}) {
    const Reply r = read(std::string("found") + how);
    EXPECT_FALSE(r.failed) << how;
    EXPECT_EQ(r.returned, 2u) << how;
  }
  EXPECT_TRUE(read("refused").failed);
  EXPECT_EQ(read("refused").code, 59);
  EXPECT_TRUE(read("write_error").failed);
  EXPECT_EQ(read("write_error").code, 11000);
  EXPECT_EQ(read("write_error").n, 1);
  EXPECT_EQ(read("write_concern").code, 64);
  EXPECT_TRUE(read("more_to_come").more_to_come);
  EXPECT_FALSE(read("hello").failed);
  EXPECT_EQ(read("legacy_failed", false).code, 17);
  EXPECT_EQ(read("legacy_no_cursor", false).code, 43);
  EXPECT_FALSE(read("legacy_empty", false).failed);
}

TEST(MongodbParse, CutAnywhere) {
  for (const auto& [name, bytes] : testdata()) {
    Header h;
    if (name.starts_with("n_")) {
      const bool plausible = look_at_message(as_bytes(bytes), h) == Start::yes;
      const bool read = Read(bytes, true).error == MessageError::none;
      EXPECT_FALSE(plausible && read) << name;
    } else {
      EXPECT_EQ(look_at_message(as_bytes(bytes), h), Start::yes) << name;
      EXPECT_EQ(h.length, bytes.size()) << name;
    }
    for (std::size_t n = 0; n < bytes.size(); ++n) {
      const std::string cut = bytes.substr(0, n);
      const Start start = look_at_message(as_bytes(cut), h);
      if (name.starts_with("y_") && n < kDetect) {
        EXPECT_EQ(start, Start::need_more) << name << n;
      }
      // Whatever is missing, nothing is read past the end (the sanitizers look) or made up.
      const Read r(cut, name.find("request") != std::string::npos);
      if (r.error == MessageError::none && name.starts_with("y_request_")) {
        const Want& want = kRequests.at(name.substr(10));
        EXPECT_EQ(r.command.operation, want.operation) << name << n;
        EXPECT_TRUE(r.command.collection.empty() || r.command.collection == want.collection);
        EXPECT_TRUE(r.command.database.empty() || r.command.database == want.database);
      }
    }
  }
}

TEST(MongodbParse, EveryByteChanged) {
  std::mt19937 random(5);
  for (const auto& [name, bytes] : testdata()) {
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      std::string changed = bytes;
      changed[i] = static_cast<char>(random());
      Header h;
      look_at_message(as_bytes(changed), h);
      const Read request(changed, true);
      const Read reply(changed, false);
    }
  }
}

TEST(MongodbDetect, OtherBytesAreNone) {
  Header h;
  for (const std::string_view text :
       {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "* OK IMAP4rev1 ready\r\n", "\x16\x03\x01\x02\x00"}) {
    const std::string bytes = std::string(text) + std::string(200, ' ');
    EXPECT_EQ(look_at_message(as_bytes(bytes), h), Start::no) << text;
  }
  EXPECT_EQ(look_at_message({}, h), Start::need_more);
}

TEST(MongodbSnappy, CopiesThatOverlap) {
  // "ab", then a copy of 10 bytes from 2 back: "abababababab".
  const std::string packed(
      "\x0c\x04"
      "ab\x19\x02",
      6);
  std::array<std::uint8_t, 16> out{};
  ASSERT_EQ(snappy_prefix(as_bytes(packed), 12, out.data(), out.size()), 12u);
  EXPECT_EQ(as_text({out.data(), 12}), "abababababab");
  EXPECT_EQ(snappy_prefix(as_bytes(packed), 12, out.data(), 5), 5u) << "as much as fits";
  EXPECT_EQ(snappy_prefix(as_bytes(packed), 13, out.data(), 16), 0u) << "another size is said";
  const std::string before(
      "\x0c\x00"
      "a\x19\x02",
      5);
  EXPECT_EQ(snappy_prefix(as_bytes(before), 12, out.data(), 16), 0u) << "from before the start";
}

TEST(MongodbBson, Numbers) {
  // {a: 1.0, b: NaN, c: true}
  std::string bytes(
      "\x00\x00\x00\x00\x01"
      "a\0\0\0\0\0\0\0\xf0\x3f\x01"
      "b\0\0\0\0\0\0\0\xf8\x7f\x08"
      "c\0\x01\0",
      31);
  bytes[0] = static_cast<char>(bytes.size());
  BsonReader reader(as_bytes(bytes));
  Element e;
  ASSERT_EQ(reader.next(e), BsonStatus::element);
  EXPECT_EQ(e.integer(), 1);
  ASSERT_EQ(reader.next(e), BsonStatus::element);
  EXPECT_EQ(e.integer(), std::nullopt);
  ASSERT_EQ(reader.next(e), BsonStatus::element);
  EXPECT_EQ(e.integer(), 1);
  EXPECT_EQ(reader.next(e), BsonStatus::end);
  EXPECT_EQ(count_elements(as_bytes(bytes)), 3u);
  EXPECT_EQ(count_elements(as_bytes(bytes).first(20)), std::nullopt);
}

}  // namespace
}  // namespace olly::mongodb
