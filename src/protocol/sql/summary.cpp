#include "protocol/sql/summary.h"

namespace olly::sql {
namespace {

std::string_view unquoted(std::string_view name) noexcept {
  if (name.size() >= 2 && (name[0] == '"' || name[0] == '`'))
    name = name.substr(1, name.size() - 2);
  return name;
}

char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool same_name(std::string_view a, std::string_view b) noexcept {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (lower(a[i]) != lower(b[i])) return false;
  }
  return true;
}

}  // namespace

void Summary::token(const Token& token, Word word) noexcept {
  if (body_) return;
  if (deeper_ > 0) {
    if (token.is('(')) ++deeper_;
    if (token.is(')')) --deeper_;
    return;
  }
  const bool taken = continue_target(token);
  if (token.cut && token.kind != Kind::punct) word = Word::other;
  if (!taken) {
    switch (token.kind) {
      case Kind::punct:
        punct(token);
        break;
      case Kind::word:
      case Kind::name:
        if (!token.cut) named(token, word);
        break;
      default:
        if (top().from == From::item) top().from = From::after;
        if (top().with == With::name) top().with = With::none;
        if (top().op != Word::explain) top().start = false;
        break;
    }
    if (!token.is('(')) top().first = false;
  }
  prev_ = token.kind == Kind::word ? word : Word::other;
}

// True: the token was a part of the target. Else the target is over.
bool Summary::continue_target(const Token& t) noexcept {
  if (target_.empty()) return false;
  if (t.is('.')) {
    // Blanks in it are rare; what stands there may be a comment.
    if (t.space || dotted_) {
      target_ = {};
      return true;
    }
    dotted_ = true;
    target_ = {target_.data(), target_.size() + 1};
    return true;
  }
  if (dotted_) {
    const bool part = (t.kind == Kind::word || t.kind == Kind::name) && !t.space && !t.cut;
    dotted_ = false;
    if (!part) {
      target_ = {};
      return false;
    }
    target_ = {target_.data(), target_.size() + t.text.size()};
    return true;
  }
  if (t.is('(') && !paren_ok_)
    target_ = {};  // a function
  else
    commit_target();
  return false;
}

void Summary::commit_target() noexcept {
  if (!target_.empty() && !is_cte(target_)) add(target_);
  target_ = {};
}

bool Summary::is_cte(std::string_view name) const noexcept {
  name = unquoted(name);
  for (std::size_t i = 0; i < cte_count_; ++i) {
    if (same_name(ctes_[i], name)) return true;
  }
  return cte_count_ == kMaxCtes;  // it may be one of those that were not kept
}

void Summary::add(std::string_view text) noexcept {
  if (full_ || text.empty()) return;
  const std::string_view separator = out_.empty() ? "" : separate_ ? "; " : " ";
  separate_ = false;
  if (out_.size() + separator.size() + text.size() > kMaxSummary) {
    full_ = true;
    return;
  }
  out_.append(separator);
  out_.append(text);
}

void Summary::punct(const Token& t) noexcept {
  switch (t.text[0]) {
    case '(':
      open();
      return;
    case ')':
      close();
      return;
    case ',':
      if (top().with == With::done)
        top().with = With::name;
      else if (top().from == From::after && top().list)
        top().from = From::item;
      return;
    case ';':
      if (depth_ > 0) return;
      levels_[0] = Level{.start = true};
      cte_count_ = 0;
      want_object_ = routine_ = false;
      separate_ = true;
      return;
    default:
      if (top().op != Word::explain) top().start = false;
      return;
  }
}

void Summary::open() noexcept {
  Level& outer = top();
  if (depth_ + 1 == kMaxDepth) {
    deeper_ = 1;
    return;
  }
  Level inner;
  inner.first = true;
  if (outer.with == With::name) outer.with = With::none;  // WITH (option = value)
  if (outer.with == With::body && (prev_ == Word::as || prev_ == Word::materialized)) {
    inner.cte_body = inner.start = true;
  } else if (outer.from == From::item) {
    // A query in place of a table, or tables in parentheses.
    outer.from = From::after;
    if (outer.op == Word::copy) {
      inner.start = true;
    } else {
      inner.from = From::item;
      inner.list = true;
    }
  } else if (outer.start && outer.op != Word::explain) {
    inner.start = true;
  }
  want_object_ = false;
  levels_[++depth_] = inner;
}

void Summary::close() noexcept {
  if (depth_ == 0) return;
  const bool cte = top().cte_body;
  --depth_;
  if (cte) top().with = With::done;
}

void Summary::expect(bool list, bool paren) noexcept {
  top().from = From::item;
  top().list = list;
  paren_ok_ = paren;
}

void Summary::named(const Token& t, Word word) noexcept {
  Level& level = top();
  if (t.kind == Kind::name) word = Word::other;
  if (level.with == With::name) {
    if (t.kind == Kind::word && word == Word::recursive) return;
    if (cte_count_ < kMaxCtes) ctes_[cte_count_++] = unquoted(t.text);
    level.with = With::body;
    return;
  }
  if (level.with == With::body) return;
  if (level.with == With::done) {
    level.with = With::none;
    level.start = true;
  }
  if (want_object_ && take_object(t, word)) return;
  if (level.from == From::item && take_target(t, word)) return;
  if (level.start && begin_statement(t, word)) return;
  clause(t, word);
}

// The kind of thing that CREATE, ALTER or DROP is about.
bool Summary::take_object(const Token& t, Word word) noexcept {
  switch (word) {
    case Word::object:
    case Word::table:
      break;
    case Word::routine:
      routine_ = true;
      break;
    case Word::person:
      want_object_ = false;
      add(t.text);
      return true;
    default:
      return true;
  }
  want_object_ = false;
  add(t.text);
  expect(top().op == Word::drop, true);
  return true;
}

// False: it is no target, and nothing that may stand before one.
bool Summary::take_target(const Token& t, Word word) noexcept {
  Level& level = top();
  switch (word) {
    case Word::skipped:
    case Word::table:
      return true;
    case Word::into:
      return level.op == Word::insert || level.op == Word::merge;
    case Word::skipped_ddl:
      if (is_ddl(level.op)) return true;
      break;
    case Word::skipped_mysql:
      if (mysql_) return true;
      break;
    case Word::select:
    case Word::with:
    case Word::from:
    case Word::set:
    case Word::values:
    case Word::using_:
    case Word::as:
    case Word::for_:
    case Word::ends_list:
      level.from = From::none;
      return false;
    default:
      break;
  }
  target_ = t.text;
  dotted_ = false;
  level.from = From::after;
  return true;
}

bool Summary::begin_statement(const Token& t, Word word) noexcept {
  Level& level = top();
  const bool explained = level.op == Word::explain;
  switch (word) {
    case Word::operation:
    case Word::begin:
    case Word::set:
    case Word::values:
      if (explained) return true;  // EXPLAIN ANALYZE
      level.op = Word::operation;
      break;
    case Word::insert:
    case Word::copy:
    case Word::call:
    case Word::merge:
      level.op = word;
      expect(false, true);
      break;
    case Word::update:
    case Word::truncate:
      level.op = word;
      expect(true, false);
      break;
    case Word::table:
      level.op = Word::operation;
      expect(false, false);
      break;
    case Word::create:
    case Word::alter:
    case Word::drop:
      level.op = word;
      want_object_ = true;
      break;
    case Word::del:
    case Word::load:
    case Word::prepare:
      level.op = word;
      break;
    case Word::explain:
      level.op = word;
      add(t.text);
      return true;
    case Word::select:
    case Word::with:
      return false;
    default:
      level.start = explained;
      return false;
  }
  level.start = false;
  add(t.text);
  return true;
}

void Summary::select(const Token& t) noexcept {
  Level& level = top();
  // GRANT SELECT ON t, CREATE POLICY p FOR SELECT are about the word only.
  if (level.op == Word::operation && prev_ != Word::for_) return;
  if (level.op == Word::alter && prev_ != Word::as) return;
  if (level.op == Word::create && prev_ == Word::for_) return;
  level.op = Word::select;
  level.from = From::none;
  level.start = level.joined = false;
  add(t.text);
}

void Summary::clause(const Token& t, Word word) noexcept {
  Level& level = top();
  switch (word) {
    case Word::select:
      select(t);
      return;
    case Word::with:
      if (level.start || level.first || prev_ == Word::as || level.op == Word::insert) {
        level.with = With::name;
      }
      return;
    case Word::as:
      if (level.op == Word::create || level.op == Word::prepare) level.start = true;
      return;
    case Word::begin:
      body_ = routine_ && level.op == Word::create;
      return;
    case Word::set:
    case Word::values:
    case Word::for_:
    case Word::ends_list:
      level.from = From::none;
      return;
    default:
      clause_table(t, word);
      return;
  }
}

void Summary::clause_table(const Token&, Word word) noexcept {
  Level& level = top();
  switch (word) {
    case Word::from:
      // Not EXTRACT(YEAR FROM x), IS DISTINCT FROM y, COPY t FROM.
      if (prev_ == Word::distinct) return;
      if (level.op == Word::select || level.op == Word::del || level.op == Word::update) {
        expect(true, false);
      }
      return;
    case Word::join:
    case Word::straight_join:
      if (level.from != From::after) return;
      level.joined = true;
      expect(level.list, false);
      return;
    case Word::into:
      if (level.op == Word::load || (level.op == Word::select && !mysql_)) expect(false, true);
      return;
    case Word::using_:
      if (level.op == Word::merge || (level.op == Word::del && !level.joined)) expect(true, false);
      return;
    default:
      return;
  }
}

void Summary::end() noexcept {
  if (dotted_) target_ = {};
  commit_target();
}

}  // namespace olly::sql
