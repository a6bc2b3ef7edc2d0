// One line of a replay file as words.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <vector>

namespace olly::replay {

struct Word {
  std::size_t column = 1;
  std::string key;   // of key=value; empty for a bare word
  std::string text;  // the word, the value, or the string's bytes with the escapes undone
  bool quoted = false;
  bool has_key = false;
};

struct LexError {
  std::size_t column;
  std::string message;
};

// Up to the end of the line or an unquoted '#' that begins a word.
std::expected<std::vector<Word>, LexError> words_of(std::string_view line);

// Pairs of hex digits; blanks between pairs are skipped. False when it is something else.
bool unhex(std::string_view text, std::string& bytes);
int hex_digit(char c) noexcept;  // -1 when it is none

}  // namespace olly::replay
