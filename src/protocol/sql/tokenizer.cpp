#include "protocol/sql/tokenizer.h"

namespace olly::sql {
namespace {

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
bool is_letter(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
bool is_blank(char c) noexcept { return static_cast<unsigned char>(c) <= ' ' || c == '\x7f'; }

}  // namespace

Tokenizer::Tokenizer(Dialect dialect, std::string_view text, bool whole) noexcept
    : text_(text),
      mysql_(dialect == Dialect::mysql || dialect == Dialect::mysql_no_backslash),
      escapes_(dialect == Dialect::mysql || dialect == Dialect::postgresql_backslash),
      whole_(whole) {}

Token Tokenizer::next() noexcept {
  Token token;
  token.space = skip_blank();
  if (rest_) {
    // A literal that may be anything.
    rest_ = false;
    token.kind = Kind::literal;
    token.text = text_.substr(text_.size());
    token.cut = true;
    return token;
  }
  if (at_ >= text_.size()) return token;
  const std::size_t begin = at_;
  token.kind = scan();
  if (executable_end_ != kNone && at_ > executable_end_) {
    // Whether the server takes this for a comment or for code decides where the token ends.
    token.kind = Kind::literal;
    executable_end_ = kNone;
    at_ = text_.size();
  }
  token.text = text_.substr(begin, at_ - begin);
  token.cut = !whole_ && at_ == text_.size();
  return token;
}

bool Tokenizer::skip_blank() noexcept {
  const std::size_t begin = at_;
  while (at_ < text_.size()) {
    if (at_ == executable_end_) {
      executable_end_ = kNone;
      at_ += 2;
    } else if (is_blank(text_[at_])) {
      ++at_;
    } else if (!skip_comment()) {
      break;
    }
  }
  return at_ > begin;
}

bool Tokenizer::skip_comment() noexcept {
  const char c = text_[at_];
  bool line = false;
  if (c == '#') {
    line = mysql_;
  } else if (c == '-' && at(at_ + 1) == '-') {
    // MySQL wants white space, a control character or the end behind it: 5--3 is 8.
    line = !mysql_ || is_blank(at(at_ + 2));
  } else if (c == '/' && at(at_ + 1) == '*') {
    skip_block();
    return true;
  }
  if (!line) return false;
  const std::size_t end = text_.find('\n', at_);
  at_ = end == std::string_view::npos ? text_.size() : end;
  if (executable_end_ != kNone && at_ > executable_end_) {
    rest_ = true;
    at_ = text_.size();
  }
  return true;
}

void Tokenizer::skip_block() noexcept {
  if (mysql_) {
    if (at(at_ + 2) == '!') return open_executable(at_ + 3);
    if (at(at_ + 2) == 'M' && at(at_ + 3) == '!') return open_executable(at_ + 4);
    const std::size_t end = text_.find("*/", at_ + 2);
    at_ = end == std::string_view::npos ? text_.size() : end + 2;
    if (executable_end_ != kNone && at_ > executable_end_) {
      rest_ = true;
      at_ = text_.size();
    }
    return;
  }
  std::size_t depth = 0;
  while (at_ < text_.size()) {
    if (text_[at_] == '/' && at(at_ + 1) == '*') {
      ++depth;
      at_ += 2;
    } else if (text_[at_] == '*' && at(at_ + 1) == '/') {
      at_ += 2;
      if (--depth == 0) return;
    } else {
      ++at_;
    }
  }
}

// The server runs what is in it, or takes it for a comment: its version decides. It is read as
// code; a token that reaches over its end would be another one in the other reading.
void Tokenizer::open_executable(std::size_t mark) noexcept {
  const std::size_t end = text_.find("*/", mark);
  if (executable_end_ != kNone || end == std::string_view::npos) {
    rest_ = true;
    at_ = text_.size();
    executable_end_ = kNone;
    return;
  }
  executable_end_ = end;
  at_ = mark;
  for (int i = 0; i < 6 && is_digit(at(at_)); ++i) ++at_;
}

Kind Tokenizer::scan() noexcept {
  const char c = text_[at_];
  if (is_letter(c)) return scan_word();
  // 1..10 is two numbers.
  const bool after_dot = at_ > 0 && text_[at_ - 1] == '.';
  if (is_digit(c) || (c == '.' && is_digit(at(at_ + 1)) && !after_dot)) {
    scan_number();
    return Kind::literal;
  }
  switch (c) {
    case '\'':
      scan_quoted(c, escapes_);
      return Kind::literal;
    case '"':
      if (mysql_) {
        scan_quoted(c, escapes_);
        return Kind::literal;
      }
      return scan_quoted(c, false) ? Kind::name : Kind::literal;
    case '`':
      if (mysql_) return scan_quoted(c, false) ? Kind::name : Kind::literal;
      break;
    case '$':
      if (!mysql_) return scan_dollar();
      break;
    case '?':
      ++at_;
      return mysql_ ? Kind::param : Kind::punct;
    default:
      break;
  }
  ++at_;
  return Kind::punct;
}

Kind Tokenizer::scan_word() noexcept {
  const std::size_t begin = at_;
  while (at_ < text_.size() &&
         (is_letter(text_[at_]) || is_digit(text_[at_]) || text_[at_] == '$')) {
    ++at_;
  }
  const std::size_t size = at_ - begin;
  const char c = text_[begin];
  if (mysql_ && c == '_' && introduces_literal()) return Kind::literal;
  if (size != 1) return Kind::word;
  const char next = at(at_);
  if (next == '\'') {
    if (c == 'b' || c == 'B' || c == 'x' || c == 'X' || c == 'n' || c == 'N') {
      scan_quoted('\'', escapes_);
      return Kind::literal;
    }
    if (!mysql_ && (c == 'e' || c == 'E')) {
      scan_quoted('\'', true);
      return Kind::literal;
    }
  }
  const bool unicode = !mysql_ && (c == 'u' || c == 'U') && next == '&';
  if (unicode && at(at_ + 1) == '\'') {
    ++at_;
    scan_quoted('\'', escapes_);
    return Kind::literal;
  }
  if (unicode && at(at_ + 1) == '"') {
    ++at_;
    return scan_quoted('"', false) ? Kind::name : Kind::literal;
  }
  return Kind::word;
}

// Behind a word like _utf8mb4: reads on over the string or hexadecimal number that it is for.
bool Tokenizer::introduces_literal() noexcept {
  std::size_t i = at_;
  while (i < text_.size() && i != executable_end_ && is_blank(text_[i])) ++i;
  const char c = at(i);
  const char lower = static_cast<char>(c | 0x20);
  if (c == '\'' || c == '"') {
    at_ = i;
    scan_quoted(c, escapes_);
    return true;
  }
  if ((lower == 'x' || lower == 'b') && at(i + 1) == '\'') {
    at_ = i + 1;
    scan_quoted('\'', escapes_);
    return true;
  }
  if (is_digit(c)) {
    at_ = i;
    scan_number();
    return true;
  }
  return false;
}

// $1, $tag$ ... $tag$, or a character on its own.
Kind Tokenizer::scan_dollar() noexcept {
  const std::size_t begin = at_++;
  if (is_digit(at(at_))) {
    while (is_digit(at(at_))) ++at_;
    // There are at most 65,535 parameters.
    return at_ - begin <= 6 ? Kind::param : Kind::literal;
  }
  while (is_letter(at(at_)) || (at_ > begin + 1 && is_digit(at(at_)))) ++at_;
  if (at(at_) != '$') {
    if (at_ == text_.size() && !whole_) return Kind::literal;  // a tag, cut off
    at_ = begin + 1;
    return Kind::punct;
  }
  ++at_;
  const std::string_view tag = text_.substr(begin, at_ - begin);
  const std::size_t end = text_.find(tag, at_);
  at_ = end == std::string_view::npos ? text_.size() : end + tag.size();
  return Kind::literal;
}

void Tokenizer::scan_alnum(bool exponent) noexcept {
  while (at_ < text_.size() && (is_digit(text_[at_]) || is_letter(text_[at_]))) {
    const char c = text_[at_++];
    if (exponent && (c == 'e' || c == 'E') && (at(at_) == '+' || at(at_) == '-') &&
        is_digit(at(at_ + 1))) {
      ++at_;
    }
  }
}

// What is glued to a number is taken for a part of it.
void Tokenizer::scan_number() noexcept {
  const bool decimal = text_[at_] != '0' || is_digit(at(at_ + 1)) || !is_letter(at(at_ + 1)) ||
                       at(at_ + 1) == 'e' || at(at_ + 1) == 'E';
  scan_alnum(decimal);
  if (decimal && at(at_) == '.' && at(at_ + 1) != '.') {
    ++at_;
    scan_alnum(true);
  }
}

// From the quote on; doubled, it stands for itself. False: it does not end.
bool Tokenizer::scan_quoted(char quote, bool escapes) noexcept {
  for (++at_; at_ < text_.size(); ++at_) {
    const char c = text_[at_];
    if (escapes && c == '\\') {
      ++at_;
    } else if (c == quote) {
      if (at(at_ + 1) != quote) {
        ++at_;
        return true;
      }
      ++at_;
    }
  }
  at_ = text_.size();
  return false;
}

}  // namespace olly::sql
