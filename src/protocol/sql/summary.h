// The summary of SQL text, token by token: operations and the tables they name.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "protocol/sql/tokenizer.h"
#include "protocol/sql/words.h"

namespace olly::sql {

class Summary {
 public:
  Summary(bool mysql, std::string& out) noexcept : out_(out), mysql_(mysql) {}

  // Every token but the end, with the meaning of its word (other, if it is none).
  void token(const Token& token, Word word) noexcept;
  void end() noexcept;
  // In a routine's body `;` separates no statements.
  bool in_body() const noexcept { return body_; }

 private:
  enum class From : std::uint8_t { none, item, after };  // waits for a target; has had one
  enum class With : std::uint8_t { none, name, body, done };
  // What stands between two parentheses, or in a statement.
  struct Level {
    Word op = Word::other;
    From from = From::none;
    With with = With::none;
    bool start = false;   // a statement may begin here
    bool first = false;   // no token yet
    bool list = false;    // a comma is followed by another target
    bool joined = false;  // USING behind a JOIN names columns
    bool cte_body = false;
  };
  static constexpr std::size_t kMaxDepth = 64;
  static constexpr std::size_t kMaxCtes = 32;

  Level& top() noexcept { return levels_[depth_]; }
  static bool is_ddl(Word op) noexcept {
    return op == Word::create || op == Word::alter || op == Word::drop;
  }
  bool continue_target(const Token& token) noexcept;
  void commit_target() noexcept;
  void punct(const Token& token) noexcept;
  void open() noexcept;
  void close() noexcept;
  void named(const Token& token, Word word) noexcept;
  bool begin_statement(const Token& token, Word word) noexcept;
  void clause(const Token& token, Word word) noexcept;
  void clause_table(const Token& token, Word word) noexcept;
  void select(const Token& token) noexcept;
  bool take_target(const Token& token, Word word) noexcept;
  bool take_object(const Token& token, Word word) noexcept;
  void expect(bool list, bool paren) noexcept;
  void add(std::string_view text) noexcept;
  bool is_cte(std::string_view name) const noexcept;

  std::string& out_;
  std::array<Level, kMaxDepth> levels_{Level{.start = true}};
  std::array<std::string_view, kMaxCtes> ctes_;
  std::size_t cte_count_ = 0;
  std::size_t depth_ = 0;
  std::size_t deeper_ = 0;   // parentheses beyond kMaxDepth
  std::string_view target_;  // being read
  Word prev_ = Word::other;
  bool mysql_;
  bool dotted_ = false;       // the target's next part must follow
  bool paren_ok_ = false;     // a target may be followed by (
  bool want_object_ = false;  // CREATE, ALTER, DROP: the kind of thing comes next
  bool routine_ = false;
  bool body_ = false;
  bool separate_ = false;  // the next word is another statement's first
  bool full_ = false;
};

}  // namespace olly::sql
