// RESP2 and RESP3 as bytes: https://redis.io/docs/latest/develop/reference/protocol-spec and, for
// streamed types, https://github.com/redis/redis-specifications (RESP3). Pure: no allocation, no
// I/O, no clock. Nothing is read that is not needed: long strings are stepped over by their length,
// and their line end with them, since of a long call only the beginning may have been captured.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"

namespace olly::redis {

inline constexpr std::int64_t kMaxLength = std::int64_t{1} << 40;  // of one string
inline constexpr std::int64_t kMaxCount = std::int64_t{1} << 32;   // of one aggregate
inline constexpr std::size_t kMaxStreamed = 8;    // streamed aggregates within each other
inline constexpr std::size_t kMaxErrorCode = 32;  // longer first words are no codes
inline constexpr std::size_t kMaxInline = 64 * 1024;

enum class Read : std::uint8_t {
  done,
  need_more,  // `used` bytes are done
  skip,       // `used` bytes are done, the next `skip` bytes are of no interest
  invalid,
};

// "<type><number>\r\n" at the beginning of `bytes`; `used` is its length.
Read read_length(ByteView bytes, std::int64_t& number, std::size_t& used) noexcept;

// Replies that mean something to the pairing.
enum class Word : std::uint8_t { none, ok, queued, reset };
// What an array or push begins with when it belongs to pub/sub or to client-side caching.
enum class Kind : std::uint8_t {
  none,
  message,
  pmessage,
  smessage,
  invalidate,
  subscribe,  // this one and the five that follow: confirmations
  psubscribe,
  ssubscribe,
  unsubscribe,
  punsubscribe,
  sunsubscribe,
};
constexpr bool is_message(Kind k) noexcept { return k >= Kind::message && k <= Kind::smessage; }
constexpr bool is_confirmation(Kind k) noexcept {
  return k >= Kind::subscribe && k <= Kind::sunsubscribe;
}

// One reply or push, of any depth, in pieces of any size.
class ReplyReader {
 public:
  // Reads on. After `done` what was learnt stands until begin(). After `skip` go on behind it, with
  // no bytes if need be.
  Read read(ByteView bytes, std::size_t& used, std::uint64_t& skip) noexcept;
  void begin() noexcept { *this = ReplyReader{}; }
  bool started() const noexcept { return started_; }

  // 0 until the type is known; attributes ("|") go before it and do not count.
  char type() const noexcept { return type_; }
  bool is_error() const noexcept { return type_ == '-' || type_ == '!'; }
  bool is_null() const noexcept { return null_; }
  // First word of an error; empty when it is no code ("ERR", "WRONGTYPE", ...).
  std::string_view error_code() const noexcept { return {code_.data(), code_size_}; }
  Word word() const noexcept { return word_; }
  Kind kind() const noexcept { return kind_; }
  std::int64_t count() const noexcept { return count_; }  // elements of the outermost aggregate
  std::int64_t last_integer() const noexcept { return last_integer_; }  // -1: there was none
  // It had a type that RESP2 does not have.
  bool resp3() const noexcept { return resp3_; }

 private:
  static constexpr std::uint64_t kEndless = std::uint64_t{1} << 62;  // left_ in a streamed one
  enum class State : std::uint8_t { element, line, chunk };
  bool finished() const noexcept { return started_ && left_ == 0 && depth_ == 0; }
  bool top() const noexcept { return left_ == 1 && depth_ == 0 && type_ == 0; }
  Read element(ByteView bytes, std::size_t& used, std::uint64_t& skip) noexcept;
  Read string(ByteView bytes, std::size_t& used, std::uint64_t& skip) noexcept;
  Read aggregate(ByteView bytes, std::size_t& used) noexcept;
  Read simple(ByteView bytes, std::size_t& used) noexcept;
  Read line(ByteView bytes, std::size_t& used) noexcept;
  Read chunk(ByteView bytes, std::size_t& used, std::uint64_t& skip) noexcept;
  Read end_streamed(ByteView bytes, std::size_t& used) noexcept;
  // An element is there. What stands directly in a streamed aggregate is not counted.
  void took() noexcept {
    if (left_ != kEndless) --left_;
  }
  void take_code(std::string_view text) noexcept;

  std::uint64_t left_ = 1;  // elements to come on this level and, fixed sizes only, around it
  std::array<std::uint64_t, kMaxStreamed> outer_{};
  std::int64_t count_ = 0;
  std::int64_t last_integer_ = -1;
  std::array<char, kMaxErrorCode> code_{};
  std::uint8_t code_size_ = 0;
  std::uint8_t depth_ = 0;
  char type_ = 0;
  char line_type_ = 0;
  State state_ = State::element;
  Word word_ = Word::none;
  Kind kind_ = Kind::none;
  bool started_ = false;
  bool null_ = false;
  bool resp3_ = false;
  bool kind_next_ = false;  // the next element says what the aggregate is
};

// One line of an inline command (up to and without its line end), split as the server does it:
// words, "double" and 'single' quotes. Calls back for each word, as it stands between its quotes.
// False: unbalanced quotes.
template <class F>
bool split_inline(std::string_view line, F&& on_word) {
  std::size_t i = 0;
  for (;;) {
    while (i < line.size() && (line[i] == ' ' || line[i] == '\t')) ++i;
    if (i >= line.size()) return true;
    const char quote = line[i] == '"' || line[i] == '\'' ? line[i] : '\0';
    const std::size_t from = quote != 0 ? ++i : i;
    if (quote == 0) {
      while (i < line.size() && line[i] != ' ' && line[i] != '\t') ++i;
      on_word(line.substr(from, i - from));
      continue;
    }
    while (i < line.size() && line[i] != quote) i += line[i] == '\\' ? 2 : 1;
    if (i >= line.size()) return false;
    on_word(line.substr(from, i - from));
    ++i;
    if (i < line.size() && line[i] != ' ' && line[i] != '\t') return false;
  }
}

}  // namespace olly::redis
