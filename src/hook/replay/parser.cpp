#include "hook/replay/parser.h"

#include <fmt/format.h>

namespace olly::replay {

Result<Recording> Parser::run(std::string_view text) {
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    ++line_;
    auto words = words_of(line);
    if (!words) {
      bad(words.error().column, words.error().message);
    } else if (!words->empty()) {
      words_ = std::move(*words);
      next_ = 0;
      statement(line);
    }
    if (!problem_.empty()) return fail(ErrorCode::config, problem_);
  }
  return std::move(out_);
}

bool Parser::bad(std::size_t column, const std::string& message) {
  if (problem_.empty()) problem_ = fmt::format("{}:{}:{}: {}", out_.file, line_, column, message);
  return false;
}

std::size_t Parser::end_column() const {
  return words_.back().column + words_.back().key.size() + words_.back().text.size() + 1;
}

const Word* Parser::need(const char* what) {
  const Word* word = take();
  if (!word) bad(end_column(), fmt::format("{} is expected here", what));
  return word;
}

bool Parser::unsigned_value(const Word& word, std::uint64_t& out, std::uint64_t most) {
  if (number(word.text, out) && out <= most) return true;
  return bad(word, fmt::format("\"{}\" is not a number from 0 to {}", word.text, most));
}

bool Parser::duration_value(const Word& word, std::string_view text, Nanos& out) {
  const auto d = parse_duration(text);
  if (!d) {
    return bad(
        word,
        fmt::format("\"{}\" is not a duration; allowed: a number with ns, us, ms, s or m", text));
  }
  out = *d;
  return true;
}

bool Parser::time_word(const Word& word, bool& was_time) {
  was_time = !word.quoted && !word.has_key && word.text.starts_with('+');
  if (!was_time) return true;
  Nanos step = 0;
  if (!duration_value(word, std::string_view(word.text).substr(1), step)) return false;
  now_ += step;
  return true;
}

bool Parser::statement(std::string_view line) {
  const Word& first = *take();
  if (first.quoted || first.has_key) return bad(first, "a statement begins with a name");
  if (first.text == "process") return process();
  if (first.text == "conn") return conn();
  if (first.text == "connect") return connect();
  if (first.text == "expect") return expect(line);
  if (first.text == "wait") return wait();
  if (first.text == "lost") return lost();
  if (const auto it = conn_names_.find(first.text); it != conn_names_.end()) {
    return event(it->second);
  }
  if (const auto it = process_names_.find(first.text); it != process_names_.end()) {
    return process_event(it->second);
  }
  return bad(first,
             fmt::format("\"{}\" is no statement and names no process or connection; allowed: "
                         "process, conn, connect, expect, lost, wait, or a name given before",
                         first.text));
}

bool Parser::new_name(const Word& word) {
  if (word.quoted || word.has_key || word.text == "process" || word.text == "conn" ||
      word.text == "expect" || word.text == "wait" || word.text == "connect" ||
      word.text == "lost") {
    return bad(word, "this cannot be a name");
  }
  if (conn_names_.contains(word.text) || process_names_.contains(word.text)) {
    return bad(word, fmt::format("\"{}\" is named already", word.text));
  }
  return true;
}

}  // namespace olly::replay
