#include <fmt/format.h>

#include "hook/replay/parser.h"

namespace olly::replay {

bool Parser::expect(std::string_view line) {
  Expectation e;
  e.line = line_;
  e.text = line;
  const Word* what = need("span, no span, spans, bytes or metric");
  if (!what) return false;
  if (what->text == "no") {
    const Word* span = need("span");
    if (!span) return false;
    if (span->text != "span") return bad(*span, "only `expect no span` is allowed");
    e.kind = Expectation::Kind::no_span;
  } else if (what->text == "spans" || what->text == "metric") {
    return expect_number(e, what->text == "spans");
  } else if (what->text == "bytes") {
    return expect_bytes(e);
  } else if (what->text != "span") {
    return bad(*what, "allowed here: span, no span, spans, bytes, metric");
  }
  while (const Word* w = take()) {
    if (!w->has_key && w->text.starts_with('!')) {
      e.absent.push_back(w->text.substr(1));
    } else if (!w->has_key) {
      return bad(*w, "allowed here: KEY=VALUE, KEY=*, !KEY, as=NAME");
    } else if (w->key == "as") {
      if (!span_names_.insert({w->text, 0}).second) return bad(*w, "this name is given already");
      e.as = w->text;
    } else {
      const bool names_span =
          w->key == "trace" || (w->key == "parent" && w->text != "none" && w->text != "*");
      if (names_span && !span_names_.contains(w->text)) {
        return bad(*w, fmt::format("no expectation above says as={}", w->text));
      }
      e.values.emplace_back(w->key, w->text);
    }
  }
  out_.expectations.push_back(std::move(e));
  return true;
}

bool Parser::expect_number(Expectation& e, bool spans) {
  e.kind = spans ? Expectation::Kind::spans : Expectation::Kind::metric;
  if (!spans) {
    const Word* name = need("the metric's name");
    if (!name) return false;
    e.metric = name->text;
  }
  bool given = false;
  while (const Word* w = take()) {
    if (w->has_key && !spans) {
      e.values.emplace_back(w->key, w->text);
    } else if (!unsigned_value(*w, e.number, ~0ull)) {
      return false;
    } else {
      given = true;
    }
  }
  if (!given) return bad(end_column(), "a number is expected here");
  out_.expectations.push_back(std::move(e));
  return true;
}

bool Parser::expect_bytes(Expectation& e) {
  e.kind = Expectation::Kind::bytes;
  while (const Word* w = take()) {
    if (!w->has_key && (w->text == "recv" || w->text == "send")) {
      e.direction = w->text == "recv" ? Direction::recv : Direction::send;
      continue;
    }
    if (!w->has_key && conn_names_.contains(w->text)) {
      e.connection = w->text;
      continue;
    }
    static constexpr std::string_view kFates = " seen parsed skipped gap evicted unparsed pending ";
    std::uint64_t n = 0;
    if (!w->has_key || kFates.find(" " + w->key + " ") == std::string_view::npos) {
      return bad(*w,
                 "allowed here: recv, send, and seen= parsed= skipped= gap= evicted= unparsed= "
                 "pending=");
    }
    if (!unsigned_value(*w, n, ~0ull)) return false;
    e.values.emplace_back(w->key, w->text);
  }
  out_.expectations.push_back(std::move(e));
  return true;
}

}  // namespace olly::replay
