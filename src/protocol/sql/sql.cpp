#include "protocol/sql/sql.h"

#include <algorithm>
#include <array>

#include "protocol/sql/summary.h"
#include "protocol/sql/tokenizer.h"
#include "protocol/sql/words.h"

namespace olly::sql {
namespace {

// Lists are collapsed where they end, so text may be longer for a while.
constexpr std::size_t kMaxWorkingText = 8 * kMaxText;

class Writer {
 public:
  Writer(Dialect dialect, Query& out) noexcept
      : out_(out),
        text_(out.text),
        mysql_(dialect == Dialect::mysql || dialect == Dialect::mysql_no_backslash),
        summary_(mysql_, out.summary) {}

  void token(const Token& t) noexcept {
    const Word word = t.kind == Kind::word ? word_of(t.text) : Word::other;
    // A password in the wrong quotes is one all the same.
    const bool secret =
        t.kind == Kind::name &&
        (prev_ == Word::password || (prev_ == Word::by && before_prev_ == Word::identified));
    count(t);
    Token shown = t;
    if (secret) shown.kind = Kind::literal;
    summary_.token(shown, word);
    if (text_.size() <= kMaxWorkingText) write(shown, word);
    before_prev_ = prev_;
    prev_ = word;
    prev_kind_ = t.is('?') ? Kind::param : t.kind;  // what a literal has become is no sign
    prev_char_ = t.kind == Kind::punct ? t.text[0] : '\0';
  }

  void end(bool whole) noexcept {
    summary_.end();
    if (!whole) close_lists();
    if (text_.size() > kMaxText) text_.resize(cut_);
    // Signs with nothing behind them would begin a comment, which they did not.
    while (mysql_ && text_.ends_with("--")) {
      text_.resize(text_.size() - 2);
      if (text_.ends_with(' ')) text_.pop_back();
    }
  }

 private:
  enum class Rows : std::uint8_t { none, expected, after };
  struct Group {
    std::size_t begin = 0;  // in the text
    std::size_t row_begin = 0;
    std::size_t row_end = 0;  // 0: there was no row yet
    std::size_t items = 0;
    Rows rows = Rows::none;  // of VALUES
    bool list = false;       // where lists are collapsed
    bool pure = true;        // nothing but literals so far
    bool row = false;
    char open = '(';
  };
  static constexpr std::size_t kMaxDepth = 64;

  Group& top() noexcept { return groups_[depth_]; }

  void count(const Token& t) noexcept {
    if (t.kind == Kind::param) out_.parameterized = true;
    if (t.is('(')) ++parentheses_;
    if (t.is(')') && parentheses_ > 0) --parentheses_;
    if (t.is(';') && parentheses_ == 0 && !summary_.in_body()) {
      counted_ = false;
    } else if (!counted_ && !t.is(';')) {
      counted_ = true;
      ++out_.statements;
    }
  }

  void write(const Token& t, Word word) noexcept {
    if (t.is('(') || t.is('[')) {
      open(t);
      return;
    }
    if ((t.is(')') && close(t, '(')) || (t.is(']') && close(t, '['))) return;
    Group& g = top();
    append(t, t.kind == Kind::literal ? std::string_view("?") : t.text);
    if (t.is(',')) {
      if (g.rows == Rows::after) g.rows = Rows::expected;
      return;
    }
    g.rows = word == Word::values ? Rows::expected : Rows::none;
    if (word == Word::values) g.row_end = 0;
    const bool item =
        t.kind == Kind::literal || t.kind == Kind::param || word == Word::literal || t.is('?');
    const bool sign =
        (t.is('-') || t.is('+')) && (prev_char_ == ',' || prev_char_ == '(' || prev_char_ == '[');
    if (item)
      ++g.items;
    else if (!sign)
      g.pure = false;
  }

  void open(const Token& t) noexcept {
    if (depth_ + 1 == kMaxDepth) {
      top().pure = false;
      append(t, t.text);
      return;
    }
    const Group& outer = top();
    Group g;
    g.open = t.text[0];
    g.row = g.open == '(' && outer.rows == Rows::expected;
    // In a list again, unless it is a function's.
    const bool nested = outer.list && prev_kind_ == Kind::punct;
    g.list = nested || g.row || (g.open == '(' ? prev_ == Word::in : prev_ == Word::array);
    blank(t);
    g.begin = text_.size();
    text_ += g.open;
    note_cut();
    groups_[++depth_] = g;
  }

  // False: nothing that it closes is open.
  bool close(const Token& t, char open) noexcept {
    if (depth_ == 0 || top().open != open) return false;
    const Group g = top();
    Group& outer = groups_[--depth_];
    const bool collapse = g.list && g.pure && g.items > 0;
    if (collapse) {
      text_.resize(g.begin);
      text_ += open;
      text_ += '?';
      ++outer.items;
    } else {
      outer.pure = false;
      blank(t);
    }
    text_ += open == '(' ? ')' : ']';
    if (g.row)
      end_row(outer, g.begin);
    else
      outer.rows = Rows::none;
    note_cut();
    return true;
  }

  // A row like the one before it is left out.
  void end_row(Group& outer, std::size_t begin) noexcept {
    outer.rows = Rows::after;
    if (outer.row_end != 0) {
      const std::string_view text = text_;
      const std::size_t size = outer.row_end - outer.row_begin;
      if (text.substr(begin) == text.substr(outer.row_begin, size)) {
        text_.resize(outer.row_end);
        return;
      }
    }
    outer.row_begin = begin;
    outer.row_end = text_.size();
  }

  // The text was cut off in a list.
  void close_lists() noexcept {
    for (; depth_ > 0; --depth_) {
      const Group& g = top();
      if (!g.list || !g.pure || g.items == 0) return;
      Group& outer = groups_[depth_ - 1];
      if (g.row && outer.row_end != 0) {
        text_.resize(outer.row_end);
      } else {
        text_.resize(g.begin);
        text_ += g.open;
        text_ += '?';
      }
      note_cut();
      ++outer.items;
    }
  }

  void blank(const Token& t) noexcept {
    if (!t.space || text_.empty()) return;
    // Two signs with a blank behind them would begin a comment, which the text did not.
    if (mysql_ && text_.ends_with("--")) return;
    text_ += ' ';
  }
  void append(const Token& t, std::string_view text) noexcept {
    blank(t);
    text_ += text;
    note_cut();
  }
  void note_cut() noexcept {
    cut_ = text_.size() <= kMaxText ? text_.size() : std::min(cut_, text_.size());
  }

  Query& out_;
  std::string& text_;
  bool mysql_;
  Summary summary_;
  std::array<Group, kMaxDepth> groups_{};
  std::size_t depth_ = 0;
  std::size_t parentheses_ = 0;
  std::size_t cut_ = 0;  // the last token's end before kMaxText
  Word prev_ = Word::other;
  Word before_prev_ = Word::other;
  Kind prev_kind_ = Kind::end;
  char prev_char_ = '\0';
  bool counted_ = false;
};

}  // namespace

void normalise(Dialect dialect, std::string_view text, bool whole, Query& out) noexcept {
  out.text.clear();
  out.summary.clear();
  out.statements = 0;
  out.parameterized = false;
  Tokenizer tokens(dialect, text, whole);
  Writer writer(dialect, out);
  for (Token t = tokens.next(); t.kind != Kind::end; t = tokens.next()) writer.token(t);
  writer.end(whole);
}

}  // namespace olly::sql
