// Fuzz target: SQL text. The first byte chooses the dialect, whether the text is whole, and how the
// rest is used: as text, or as a script that builds text from fragments with secret literals.
// No literal survives: what comes out has none but `?` when it is read again, and no secret. And it
// stays as it is when it goes through again.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "protocol/sql/sql.h"
#include "protocol/sql/tokenizer.h"

namespace {

using namespace olly::sql;

void check(bool ok) {
  if (!ok) std::abort();
}

constexpr std::string_view kSecret = "s3cr3t";
constexpr std::string_view kLiterals[2][8] = {
    {"'s3cr3t'", "E'a\\'s3cr3t'", "$$'s3cr3t$$", "$q$ s3cr3t $$ $q$", "U&'s3cr3t'", "'a''s3cr3t'",
     "/* s3cr3t /* ' */ */", "-- s3cr3t '\n"},
    {"'s3cr3t'", "\"s3cr3t\"", "'a\\'s3cr3t'", "\"a\"\"s3cr3t\"", "_utf8 's3cr3t'", "N's3cr3t'",
     "/* s3cr3t ' */", "# s3cr3t '\n"}};
constexpr std::string_view kFragments[] = {
    "SELECT ", " FROM ",  "t", "\"n\"", "(",     ")",       ",",      " IN ", " VALUES ", ";",
    " WITH ",  " AS ",    "[", "]",     "::",    " ARRAY",  "$1",     "?",    " JOIN ",   " INTO ",
    "INSERT ", "UPDATE ", ".", " a ",   " SET ", "CREATE ", "TABLE ", "7",    "-",        "NULL"};

std::string build(const std::uint8_t* data, std::size_t size, bool mysql) {
  std::string text;
  for (std::size_t i = 0; i < size; ++i) {
    if (data[i] >= 0xc0) {
      text += ' ';
      text += kLiterals[mysql ? 1 : 0][data[i] % 8];
      text += ' ';
    } else {
      text += kFragments[data[i] % std::size(kFragments)];
    }
  }
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto dialect = static_cast<Dialect>(data[0] & 3);
  const bool mysql = dialect == Dialect::mysql || dialect == Dialect::mysql_no_backslash;
  const bool whole = (data[0] & 4) != 0;
  const bool built = (data[0] & 8) != 0 && dialect <= Dialect::mysql;
  const std::string text = built ? build(data + 1, size - 1, mysql)
                                 : std::string(reinterpret_cast<const char*>(data + 1), size - 1);
  Query q;
  normalise(dialect, text, whole, q);
  check(q.text.size() <= kMaxText && q.summary.size() <= kMaxSummary);
  check(q.statements <= text.size());
  if (built) {
    check(q.text.find(kSecret) == std::string::npos);
    check(q.summary.find(kSecret) == std::string::npos);
  }
  Tokenizer tokens(dialect, q.text, true);
  for (Token t = tokens.next(); t.kind != Kind::end; t = tokens.next()) {
    check(t.kind != Kind::literal);
    check(t.is('?') || t.kind != Kind::punct || (t.text[0] != '\'' && (mysql || t.text[0] != '"')));
  }
  const std::string once = q.text;
  normalise(dialect, once, true, q);
  check(q.text == once);
  return 0;
}
