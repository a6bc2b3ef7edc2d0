// SQL text as it may leave the process: every literal replaced by `?`, and its summary, which names
// the span (semantic conventions 1.44, "Sanitization of db.query.text" and "Generating a summary of
// the query text").
//
// A tokenizer per dialect, not a grammar: what it does not understand stays as it is only if it is
// no literal. Never throws, never allocates beyond the two strings, linear in the text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace olly::sql {

enum class Dialect : std::uint8_t {
  postgresql,  // $tag$ quotes, E'' U&'' B'' X'' strings, :: casts, $1 parameters, nested comments
  mysql,       // `names`, "strings" (ANSI_QUOTES is not known: see sql.cpp), \\ escapes, # comments
};

// db.query.text is cut at a token behind this many bytes; a summary ends at a token before 255.
inline constexpr std::size_t kMaxText = 2048;
inline constexpr std::size_t kMaxSummary = 255;

struct Query {
  std::string text;            // literals are `?`, comments are gone, white space is one blank;
                               // `IN (?, ?, ?)` and rows of VALUES are collapsed to `(?)`
  std::string summary;         // operations and targets in textual order: "SELECT songs artists"
  std::size_t statements = 0;  // separated by `;`, empty ones not counted
  bool parameterized = false;  // it has $1 or ? placeholders of its own
};

// `whole` false: the text was cut off (capture limit): a literal that does not end is one.
// `out` keeps its memory from call to call.
void normalise(Dialect dialect, std::string_view text, bool whole, Query& out) noexcept;

}  // namespace olly::sql
