// Reads a recording's statements, line by line; recording.h's parse() is its front. What a
// statement says is read in a file of its own: processes and connections (parser_subjects.cpp),
// what happens (parser_events.cpp), expectations (parser_expect.cpp).
#pragma once

#include <charconv>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "hook/replay/lexer.h"
#include "hook/replay/recording.h"

namespace olly::replay {

inline constexpr std::size_t kMaxFile = 256ull * 1024 * 1024;  // and of one fill:

inline bool number(std::string_view text, std::uint64_t& out, int base = 10) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, base);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

// `problem_` is set at the first error; the methods that return bool say false then.
class Parser {
 public:
  explicit Parser(const std::string& file) { out_.file = file; }
  Result<Recording> run(std::string_view text);

 private:
  bool bad(std::size_t column, const std::string& message);
  bool bad(const Word& word, const std::string& message) { return bad(word.column, message); }
  const Word* take() { return next_ < words_.size() ? &words_[next_++] : nullptr; }
  std::size_t end_column() const;
  const Word* need(const char* what);
  bool unsigned_value(const Word& word, std::uint64_t& out, std::uint64_t most);
  bool duration_value(const Word& word, std::string_view text, Nanos& out);
  // "+3ms" moves the clock.
  bool time_word(const Word& word, bool& was_time);
  bool statement(std::string_view line);
  bool new_name(const Word& word);
  bool process();
  Step& step(Step::Kind kind, std::size_t subject);
  bool endpoint(const Word& word, Endpoint& e, std::string& path);
  // The two ends of a connection that are written without id= know each other by their endpoints.
  void derive_identity(ConnLine& c, const std::string& local, const std::string& remote);
  bool identity(const Word& word, ConnectionIdentity& id);
  // connect() before anything else is known of the connection.
  bool connect();
  bool conn();
  Step& open_step(std::size_t conn);
  bool process_event(std::size_t index);
  bool wait();
  // Events from now on, for so long, may be missing.
  bool lost();
  bool event(std::size_t conn);
  bool tls(Step& s);
  bool event_parts(Step& s);
  static bool flag(Step& s, std::string_view text);
  bool payload(const Word& w, std::string& bytes);
  bool file_payload(const Word& w, std::string& bytes);
  bool expect(std::string_view line);
  bool expect_number(Expectation& e, bool spans);
  bool expect_bytes(Expectation& e);

  Recording out_;
  std::string problem_;
  std::vector<Word> words_;
  std::size_t next_ = 0;
  std::uint32_t line_ = 0;
  Nanos now_ = 0;
  std::map<std::string, std::size_t> process_names_, conn_names_, span_names_;
  std::map<std::string, std::uint64_t> pairs_;
};

}  // namespace olly::replay
