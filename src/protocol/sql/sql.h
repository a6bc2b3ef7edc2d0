// SQL text as it may leave the process: every literal replaced by `?`, and its summary, which names
// the span (semantic conventions 1.44, "Sanitization of db.query.text" and "Generating a summary of
// the query text").
//
// A tokenizer per dialect (tokenizer.h), not a grammar: what it does not understand stays as it is
// only if it is no literal. Never throws, never allocates beyond the two strings, linear in the
// text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace olly::sql {

// Where a string ends depends on settings of the session; a protocol that knows better says so.
enum class Dialect : std::uint8_t {
  postgresql,            // $tag$ quotes, E'' U&'' B'' X'' strings, :: casts, $1 parameters, nested
                         // comments
  mysql,                 // `names`, "strings" (also where ANSI_QUOTES makes names of them: rather a
                         // name too few than a literal too many), \ escapes, # comments, /*! */
  postgresql_backslash,  // standard_conforming_strings is off: \ escapes in '' strings, too
  mysql_no_backslash,    // NO_BACKSLASH_ESCAPES is on
};

// db.query.text is cut at a token behind this many bytes; a summary ends at a token before 255.
inline constexpr std::size_t kMaxText = 2048;
inline constexpr std::size_t kMaxSummary = 255;

struct Query {
  std::string text;            // literals are `?`, comments are gone, white space is one blank;
                               // `IN (1, 2)`, `ARRAY[1, 2]` and rows of VALUES that hold nothing
                               // but literals and placeholders are `(?)`, equal rows are one
  std::string summary;         // operations and targets in textual order, as they are written:
                               // "SELECT songs artists"; statements are separated by "; "
  std::size_t statements = 0;  // separated by `;`, empty ones not counted
  bool parameterized = false;  // it has $1 or ? placeholders of its own
};

// `whole` false: the text was cut off (capture limit). A literal that does not end is one in any
// case; the last word of a text that was cut off names nothing.
// `out` keeps its memory from call to call. Text that went through once stays as it is.
void normalise(Dialect dialect, std::string_view text, bool whole, Query& out) noexcept;

}  // namespace olly::sql
