#include "protocol/redis/text.h"

#include <algorithm>
#include <charconv>

namespace olly::redis {
namespace {

constexpr std::size_t kMaxWord = 24;    // of words that decide something
constexpr std::size_t kMaxDigits = 10;  // of numbers that do

bool is_letter(char c) noexcept { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

std::int64_t number_of(std::string_view text) noexcept {
  std::int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() ? value : -1;
}

// Reads as one word on a command line. Bytes from 0x80 on do: keys are often UTF-8.
bool is_plain(std::string_view key) noexcept {
  return !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
    const auto u = static_cast<unsigned char>(c);
    return u > 0x20 && u != 0x7f && c != '"' && c != '\'' && c != '\\';
  });
}

}  // namespace

bool is_name(std::string_view word) noexcept {
  if (word.empty() || word.size() > kMaxName || !is_letter(word[0])) return false;
  return std::all_of(word.begin(), word.end(), [](char c) {
    return is_letter(c) || is_digit(c) || c == '.' || c == '_' || c == '-';
  });
}

bool same_word(std::string_view a, std::string_view lower) noexcept {
  return a.size() == lower.size() &&
         std::equal(a.begin(), a.end(), lower.begin(), [](char x, char y) {
           return (x >= 'A' && x <= 'Z' ? static_cast<char>(x + 32) : x) == y;
         });
}

void CommandText::begin(std::int64_t argc) noexcept {
  text_.clear();
  command_ = nullptr;
  argc_ = argc;
  index_ = keys_left_ = keys_from_ = 0;
  database_ = -1;
  name_ = 0;
  full_ = reply_ = false;
  reply_mode_ = ReplyMode::unchanged;
}

bool CommandText::is_key() const noexcept {
  if (keys_left_ > 0 && index_ >= keys_from_) return true;
  const Command& c = *command_;
  if (c.first == 0 || index_ < c.first) return false;
  const std::int64_t last = c.last < 0 ? argc_ + c.last : c.last;
  return index_ <= last && (index_ - c.first) % c.step == 0;
}

CommandText::Use CommandText::use_of_next() const noexcept {
  if (index_ == 0) return Use::name;
  if (command_ == nullptr) return Use::mask;
  const Command& c = *command_;
  if (c.container && index_ == 1) return Use::subcommand;
  if (c.numkeys != 0 && index_ == c.numkeys) return Use::number;
  if (c.role == Role::select && index_ == 1) return Use::database;
  // GROUP, its name and the consumer's go before.
  const std::int64_t before_streams = c.name == "xreadgroup" ? 4 : 1;
  if (c.role == Role::streams && keys_from_ == 0) {
    return index_ < before_streams ? Use::mask : Use::word;
  }
  if (reply_ && index_ == 2 && argc_ == 3) return Use::mode;
  return is_key() ? Use::key : Use::mask;
}

bool CommandText::wants(std::uint64_t length) const noexcept {
  switch (use_of_next()) {
    case Use::mask:
      return false;
    case Use::name:
      return length <= kMaxName;
    case Use::key:
      return length <= kMaxKey && !full_;
    case Use::subcommand:
    case Use::mode:
      return length <= kMaxWord;
    case Use::word:
      return length == std::string_view("streams").size();
    case Use::number:
    case Use::database:
      return length <= kMaxDigits;
  }
  return false;
}

void CommandText::append(std::string_view word) {
  if (full_) return;
  if (text_.size() + word.size() + 1 > kMaxText) {
    text_ += " ...";
    full_ = true;
    return;
  }
  if (index_ > 0) text_ += ' ';
  text_ += word;
}

void CommandText::append_key(std::string_view key) {
  if (is_plain(key)) {
    append(key);
    return;
  }
  static constexpr char kHex[] = "0123456789abcdef";
  char quoted[4 * kMaxKey + 2];
  std::size_t n = 0;
  quoted[n++] = '"';
  for (const char c : key) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted[n++] = '\\';
      quoted[n++] = c;
    } else if (c == '\n' || c == '\r' || c == '\t') {
      quoted[n++] = '\\';
      quoted[n++] = c == '\n' ? 'n' : c == '\r' ? 'r' : 't';
    } else if (u < 0x20 || u == 0x7f) {
      quoted[n++] = '\\';
      quoted[n++] = 'x';
      quoted[n++] = kHex[u >> 4];
      quoted[n++] = kHex[u & 15];
    } else {
      quoted[n++] = c;
    }
  }
  quoted[n++] = '"';
  append({quoted, n});
}

void CommandText::masked() {
  if (keys_left_ > 0 && index_ >= keys_from_) --keys_left_;
  append("?");
  ++index_;
}

void CommandText::argument(std::string_view text) {
  switch (use_of_next()) {
    case Use::name:
      if (!is_name(text)) return masked();
      command_ = find_command(text);
      append(text);
      name_ = static_cast<std::uint8_t>(text.size());
      break;
    case Use::subcommand:
      if (!is_subcommand(text)) return masked();
      reply_ = command_->role == Role::client && same_word(text, "reply");
      append(text);
      break;
    case Use::key:
      if (text.size() > kMaxKey) return masked();
      append_key(text);
      if (keys_left_ > 0 && index_ >= keys_from_) --keys_left_;
      break;
    case Use::number:
      masked();
      keys_left_ = std::clamp<std::int64_t>(number_of(text), 0, argc_);
      keys_from_ = index_;
      return;
    case Use::database:
      if (const std::int64_t n = number_of(text); n >= 0 && n <= INT32_MAX) {
        database_ = static_cast<int>(n);
      }
      return masked();
    case Use::word:
      if (!same_word(text, "streams")) return masked();
      keys_from_ = index_ + 1;
      keys_left_ = (argc_ - keys_from_) / 2;
      append("?");
      break;
    case Use::mode:
      if (same_word(text, "on")) reply_mode_ = ReplyMode::on;
      if (same_word(text, "off")) reply_mode_ = ReplyMode::off;
      if (same_word(text, "skip")) reply_mode_ = ReplyMode::skip;
      return masked();
    case Use::mask:
      return masked();
  }
  ++index_;
}

}  // namespace olly::redis
