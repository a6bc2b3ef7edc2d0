// SQL text in tokens, as far as it takes to tell literals from all else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "protocol/sql/sql.h"

namespace olly::sql {

enum class Kind : std::uint8_t {
  end,
  word,     // keyword or identifier
  name,     // quoted identifier
  literal,  // number or string, with prefix; also what does not end or cannot be told
  param,    // $1, or MySQL's ?
  punct,    // one character of anything else
};

struct Token {
  Kind kind = Kind::end;
  bool space = false;  // white space or a comment is before it
  bool cut = false;    // the text was cut off, perhaps in the middle of this token
  std::string_view text;
  bool is(char c) const noexcept { return kind == Kind::punct && text[0] == c; }
};

class Tokenizer {
 public:
  Tokenizer(Dialect dialect, std::string_view text, bool whole) noexcept;
  Token next() noexcept;

 private:
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

  char at(std::size_t i) const noexcept { return i < text_.size() ? text_[i] : '\0'; }
  bool skip_blank() noexcept;
  bool skip_comment() noexcept;
  void skip_block() noexcept;
  void open_executable(std::size_t mark) noexcept;
  Kind scan() noexcept;
  Kind scan_word() noexcept;
  Kind scan_dollar() noexcept;
  void scan_number() noexcept;
  void scan_alnum(bool exponent) noexcept;
  bool scan_quoted(char quote, bool escapes) noexcept;
  bool introduces_literal() noexcept;

  std::string_view text_;
  std::size_t at_ = 0;
  std::size_t executable_end_ = kNone;  // of the /*! ... */ we are in: where its */ stands
  bool mysql_;
  bool escapes_;  // \ in '' strings
  bool whole_;
  bool rest_ = false;  // nobody can tell what the rest of the text is
};

}  // namespace olly::sql
