#include "hook/replay/lexer.h"

namespace olly::replay {
namespace {

bool blank(char c) noexcept { return c == ' ' || c == '\t' || c == '\r'; }

bool key_char(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '.' || c == '-';
}

// `at` stands behind the opening quote; moves behind the closing one.
std::expected<std::string, LexError> quoted(std::string_view line, std::size_t& at) {
  const std::size_t opening = at;
  std::string out;
  while (at < line.size() && line[at] != '"') {
    if (line[at] != '\\') {
      out.push_back(line[at++]);
      continue;
    }
    const std::size_t escape = at + 1;
    const char c = escape < line.size() ? line[escape] : '\0';
    at += 2;
    constexpr std::string_view kLetters = "abfnrtv0\\\"'";
    constexpr std::string_view kValues("\a\b\f\n\r\t\v\0\\\"'", 11);
    if (const std::size_t i = kLetters.find(c); c != '\0' && i != std::string_view::npos) {
      out.push_back(kValues[i]);
    } else if (c == 'x' && at + 1 < line.size() && hex_digit(line[at]) >= 0 &&
               hex_digit(line[at + 1]) >= 0) {
      out.push_back(static_cast<char>(hex_digit(line[at]) * 16 + hex_digit(line[at + 1])));
      at += 2;
    } else {
      return std::unexpected(LexError{
          escape, "unknown escape; allowed: \\a \\b \\f \\n \\r \\t \\v \\0 \\\\ \\\" \\' \\xNN"});
    }
  }
  if (at >= line.size())
    return std::unexpected(LexError{opening, "the string has no closing quote"});
  ++at;
  return out;
}

}  // namespace

int hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool unhex(std::string_view text, std::string& bytes) {
  for (std::size_t i = 0; i < text.size();) {
    if (blank(text[i]) || text[i] == '\n') {
      ++i;
      continue;
    }
    if (i + 1 >= text.size() || hex_digit(text[i]) < 0 || hex_digit(text[i + 1]) < 0) return false;
    bytes.push_back(static_cast<char>(hex_digit(text[i]) * 16 + hex_digit(text[i + 1])));
    i += 2;
  }
  return true;
}

std::expected<std::vector<Word>, LexError> words_of(std::string_view line) {
  std::vector<Word> words;
  std::size_t at = 0;
  for (;;) {
    while (at < line.size() && blank(line[at])) ++at;
    if (at >= line.size() || line[at] == '#') return words;
    Word word;
    word.column = at + 1;
    std::size_t equals = at;
    while (equals < line.size() && key_char(line[equals])) ++equals;
    if (equals > at && equals < line.size() && line[equals] == '=') {
      word.has_key = true;
      word.key = line.substr(at, equals - at);
      at = equals + 1;
    }
    if (at < line.size() && line[at] == '"') {
      word.quoted = true;
      ++at;
      auto text = quoted(line, at);
      if (!text) return std::unexpected(text.error());
      word.text = std::move(*text);
      if (at < line.size() && !blank(line[at])) {
        return std::unexpected(LexError{at + 1, "a blank is expected behind the string"});
      }
    } else {
      const std::size_t from = at;
      while (at < line.size() && !blank(line[at])) ++at;
      word.text = line.substr(from, at - from);
    }
    words.push_back(std::move(word));
  }
}

}  // namespace olly::replay
