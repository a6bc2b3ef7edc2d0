#include "protocol/sql/words.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace olly::sql {
namespace {

struct Entry {
  std::string_view text;
  Word word;
};

// Sorted.
constexpr std::array kWords = {
    Entry{"ABORT", Word::operation},
    Entry{"AGGREGATE", Word::object},
    Entry{"ALTER", Word::alter},
    Entry{"ANALYSE", Word::operation},
    Entry{"ANALYZE", Word::operation},
    Entry{"ARRAY", Word::array},
    Entry{"AS", Word::as},
    Entry{"BEGIN", Word::begin},
    Entry{"BINLOG", Word::operation},
    Entry{"BY", Word::by},
    Entry{"CACHE", Word::operation},
    Entry{"CALL", Word::call},
    Entry{"CHECK", Word::operation},
    Entry{"CHECKPOINT", Word::operation},
    Entry{"CHECKSUM", Word::operation},
    Entry{"CLOSE", Word::operation},
    Entry{"CLUSTER", Word::operation},
    Entry{"COLLATION", Word::object},
    Entry{"COMMENT", Word::operation},
    Entry{"COMMIT", Word::operation},
    Entry{"CONCURRENTLY", Word::skipped_ddl},
    Entry{"COPY", Word::copy},
    Entry{"CREATE", Word::create},
    Entry{"DATABASE", Word::object},
    Entry{"DEALLOCATE", Word::operation},
    Entry{"DECLARE", Word::operation},
    Entry{"DEFAULT", Word::literal},
    Entry{"DELAYED", Word::skipped_mysql},
    Entry{"DELETE", Word::del},
    Entry{"DESC", Word::operation},
    Entry{"DESCRIBE", Word::operation},
    Entry{"DISCARD", Word::operation},
    Entry{"DISTINCT", Word::distinct},
    Entry{"DO", Word::operation},
    Entry{"DOMAIN", Word::object},
    Entry{"DROP", Word::drop},
    Entry{"END", Word::operation},
    Entry{"EVENT", Word::routine},
    Entry{"EXCEPT", Word::ends_list},
    Entry{"EXECUTE", Word::call},
    Entry{"EXISTS", Word::skipped_ddl},
    Entry{"EXPLAIN", Word::explain},
    Entry{"EXTENSION", Word::object},
    Entry{"FALSE", Word::literal},
    Entry{"FETCH", Word::operation},
    Entry{"FLUSH", Word::operation},
    Entry{"FOR", Word::for_},
    Entry{"FROM", Word::from},
    Entry{"FUNCTION", Word::routine},
    Entry{"GRANT", Word::operation},
    Entry{"GROUP", Word::ends_list},
    Entry{"HANDLER", Word::operation},
    Entry{"HAVING", Word::ends_list},
    Entry{"HELP", Word::operation},
    Entry{"HIGH_PRIORITY", Word::skipped_mysql},
    Entry{"IDENTIFIED", Word::identified},
    Entry{"IF", Word::skipped_ddl},
    Entry{"IGNORE", Word::skipped_mysql},
    Entry{"IMPORT", Word::operation},
    Entry{"IN", Word::in},
    Entry{"INDEX", Word::object},
    Entry{"INSERT", Word::insert},
    Entry{"INSTALL", Word::operation},
    Entry{"INTERSECT", Word::ends_list},
    Entry{"INTO", Word::into},
    Entry{"JOIN", Word::join},
    Entry{"KILL", Word::operation},
    Entry{"LATERAL", Word::skipped},
    Entry{"LIMIT", Word::ends_list},
    Entry{"LISTEN", Word::operation},
    Entry{"LOAD", Word::load},
    Entry{"LOCK", Word::operation},
    Entry{"LOW_PRIORITY", Word::skipped_mysql},
    Entry{"MATERIALIZED", Word::materialized},
    Entry{"MERGE", Word::merge},
    Entry{"MOVE", Word::operation},
    Entry{"NOT", Word::skipped_ddl},
    Entry{"NOTIFY", Word::operation},
    Entry{"NULL", Word::literal},
    Entry{"OFFSET", Word::ends_list},
    Entry{"ON", Word::skipped_ddl},
    Entry{"ONLY", Word::skipped},
    Entry{"OPTIMIZE", Word::operation},
    Entry{"ORDER", Word::ends_list},
    Entry{"PASSWORD", Word::password},
    Entry{"POLICY", Word::object},
    Entry{"PREPARE", Word::prepare},
    Entry{"PROCEDURE", Word::routine},
    Entry{"PUBLICATION", Word::object},
    Entry{"PURGE", Word::operation},
    Entry{"QUICK", Word::skipped_mysql},
    Entry{"REASSIGN", Word::operation},
    Entry{"RECURSIVE", Word::recursive},
    Entry{"REFRESH", Word::operation},
    Entry{"REINDEX", Word::operation},
    Entry{"RELEASE", Word::operation},
    Entry{"RENAME", Word::operation},
    Entry{"REPAIR", Word::operation},
    Entry{"REPLACE", Word::insert},
    Entry{"RESET", Word::operation},
    Entry{"RETURNING", Word::ends_list},
    Entry{"REVOKE", Word::operation},
    Entry{"ROLE", Word::person},
    Entry{"ROLLBACK", Word::operation},
    Entry{"RULE", Word::object},
    Entry{"SAVEPOINT", Word::operation},
    Entry{"SCHEMA", Word::object},
    Entry{"SECURITY", Word::operation},
    Entry{"SELECT", Word::select},
    Entry{"SEQUENCE", Word::object},
    Entry{"SERVER", Word::object},
    Entry{"SET", Word::set},
    Entry{"SHOW", Word::operation},
    Entry{"SHUTDOWN", Word::operation},
    Entry{"SIGNAL", Word::operation},
    Entry{"START", Word::operation},
    Entry{"STRAIGHT_JOIN", Word::straight_join},
    Entry{"SUBSCRIPTION", Word::object},
    Entry{"TABLE", Word::table},
    Entry{"TABLESPACE", Word::object},
    Entry{"TEMP", Word::skipped},
    Entry{"TEMPORARY", Word::skipped},
    Entry{"TRIGGER", Word::routine},
    Entry{"TRUE", Word::literal},
    Entry{"TRUNCATE", Word::truncate},
    Entry{"TYPE", Word::object},
    Entry{"UNINSTALL", Word::operation},
    Entry{"UNION", Word::ends_list},
    Entry{"UNLISTEN", Word::operation},
    Entry{"UNLOCK", Word::operation},
    Entry{"UNLOGGED", Word::skipped},
    Entry{"UPDATE", Word::update},
    Entry{"USE", Word::operation},
    Entry{"USER", Word::person},
    Entry{"USING", Word::using_},
    Entry{"VACUUM", Word::operation},
    Entry{"VALUE", Word::values},
    Entry{"VALUES", Word::values},
    Entry{"VIEW", Word::object},
    Entry{"WHERE", Word::ends_list},
    Entry{"WINDOW", Word::ends_list},
    Entry{"WITH", Word::with},
    Entry{"XA", Word::operation},
};
constexpr std::size_t kLongest = 13;

constexpr bool by_text(const Entry& a, const Entry& b) noexcept { return a.text < b.text; }
static_assert(std::is_sorted(kWords.begin(), kWords.end(), by_text));

}  // namespace

Word word_of(std::string_view text) noexcept {
  if (text.size() < 2 || text.size() > kLongest) return Word::other;
  std::array<char, kLongest> upper{};
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    upper[i] = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  }
  const Entry key{{upper.data(), text.size()}, Word::other};
  const auto found = std::lower_bound(kWords.begin(), kWords.end(), key, by_text);
  return found != kWords.end() && found->text == key.text ? found->word : Word::other;
}

}  // namespace olly::sql
