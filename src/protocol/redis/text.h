// db.query.text of one command: CLI syntax, keys as they are, every other argument "?".
//
// What is kept: the command, its subcommand if that is a known word, keys up to kMaxKey bytes
// (quoted as redis-cli does where they would not read as one word). Unknown commands keep nothing
// but their name. The text is the same however the bytes arrived.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "protocol/redis/commands.h"

namespace olly::redis {

inline constexpr std::size_t kMaxName = 64;    // longer command names are unknown ones
inline constexpr std::size_t kMaxKey = 512;    // longer keys are masked
inline constexpr std::size_t kMaxText = 1024;  // then "..."

// What CLIENT REPLY asked for.
enum class ReplyMode : std::uint8_t { unchanged, on, off, skip };

class CommandText {
 public:
  // A command of `argc` arguments, its own name included. Keeps its memory.
  void begin(std::int64_t argc) noexcept;
  // Whether the next argument, `length` bytes long, must be handed over whole. It never asks for
  // more than kMaxKey bytes.
  bool wants(std::uint64_t length) const noexcept;
  void argument(std::string_view text);
  void masked();

  std::int64_t argc() const noexcept { return argc_; }
  std::int64_t arguments() const noexcept { return index_; }  // so far
  const Command* command() const noexcept { return command_; }
  // As sent; empty when it does not look like a command's name at all.
  std::string_view name() const noexcept { return std::string_view(text_).substr(0, name_); }
  std::string_view text() const noexcept { return text_; }
  // SELECT's argument; negative when it is no number.
  int database() const noexcept { return database_; }
  ReplyMode reply_mode() const noexcept { return reply_mode_; }

 private:
  enum class Use : std::uint8_t { mask, name, subcommand, key, number, database, word, mode };
  Use use_of_next() const noexcept;
  bool is_key() const noexcept;
  void append_key(std::string_view key);
  void append(std::string_view word);

  std::string text_;
  const Command* command_ = nullptr;
  std::int64_t argc_ = 0;
  std::int64_t index_ = 0;      // of the next argument
  std::int64_t keys_left_ = 0;  // announced by numkeys, or by STREAMS
  std::int64_t keys_from_ = 0;  // where those begin
  int database_ = -1;
  std::uint8_t name_ = 0;  // its length in the text
  bool full_ = false;
  bool reply_ = false;  // CLIENT REPLY
  ReplyMode reply_mode_ = ReplyMode::unchanged;
};

// Letters, digits and ". _ -", a letter first, at most kMaxName.
bool is_name(std::string_view word) noexcept;
bool same_word(std::string_view a, std::string_view lower) noexcept;

}  // namespace olly::redis
