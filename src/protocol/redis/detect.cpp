#include "protocol/redis/detect.h"

#include <algorithm>
#include <array>

#include "protocol/redis/commands.h"
#include "protocol/redis/parse.h"
#include "protocol/redis/text.h"

namespace olly::redis {
namespace {

constexpr std::size_t kMaxLine = 1024;

// Inline commands that count as evidence.
constexpr Probe kProbes[] = {
    {"ping", 1, 1, "+PONG\r\n"},
    {"echo", 2, 2, "$"},
    {"get", 2, 2, "$"},
    {"set", 3, 3, "+OK\r\n"},
    {"select", 2, 2, "+OK\r\n"},
    {"info", 1, 2, "$"},
    {"dbsize", 1, 1, ":"},
    {"exists", 2, 9, ":"},
    {"del", 2, 9, ":"},
    {"incr", 2, 2, ":"},
    {"decr", 2, 2, ":"},
    {"incrby", 3, 3, ":"},
    {"ttl", 2, 2, ":"},
    {"llen", 2, 2, ":"},
    {"lpush", 3, 9, ":"},
    {"rpush", 3, 9, ":"},
    {"lrange", 4, 4, "*"},
    {"keys", 2, 2, "*"},
    {"hget", 3, 3, "$"},
    {"hset", 4, 9, ":"},
    {"hgetall", 2, 2, "*"},
    {"sadd", 3, 9, ":"},
    {"smembers", 2, 2, "*"},
    {"time", 1, 1, "*"},
    {"flushall", 1, 1, "+OK\r\n"},
};

// Errors that no other protocol has. "-ERR" is POP3's.
constexpr std::string_view kErrors[] = {"-NOAUTH ", "-WRONGTYPE ", "-DENIED ", "-NOPERM ",
                                        "-LOADING "};

bool begins_with_word(std::string_view word, std::string_view part) noexcept {
  return part.size() <= word.size() && same_word(part, word.substr(0, part.size()));
}

const Probe* find_probe(std::string_view word) noexcept {
  const auto* at = std::find_if(std::begin(kProbes), std::end(kProbes),
                                [&](const Probe& p) { return same_word(word, p.name); });
  return at == std::end(kProbes) ? nullptr : at;
}

struct Line {
  Verdict verdict = Verdict::no;
  const Probe* probe = nullptr;
};

Line read_line(ByteView bytes) noexcept {
  const std::string_view text = as_text(bytes);
  const std::string_view word = text.substr(0, text.find_first_of(" \t\r\n"));
  if (word.size() == text.size()) {
    const bool may = std::any_of(std::begin(kProbes), std::end(kProbes),
                                 [&](const Probe& p) { return begins_with_word(p.name, word); });
    return {may ? Verdict::need_more : Verdict::no};
  }
  const Probe* probe = find_probe(word);
  if (probe == nullptr) return {};
  const std::size_t end = text.substr(0, kMaxLine).find('\n');
  std::string_view line = text.substr(0, std::min(end, kMaxLine));
  if (line.ends_with('\r')) line.remove_suffix(1);
  const bool printable = std::all_of(line.begin(), line.end(), [](char c) {
    const auto u = static_cast<unsigned char>(c);
    return (u >= 0x20 && u != 0x7f) || c == '\t';
  });
  if (!printable) return {};
  int words = 0;
  const bool balanced = split_inline(line, [&](std::string_view) { ++words; });
  if (words > probe->most) return {};
  if (end == std::string_view::npos) {
    return {text.size() < kMaxLine ? Verdict::need_more : Verdict::no};
  }
  if (!balanced || words < probe->least) return {};
  return {Verdict::maybe, probe};
}

Verdict begins_with(std::string_view text, std::string_view whole) noexcept {
  if (text.starts_with(whole)) return Verdict::yes;
  return whole.starts_with(text) ? Verdict::need_more : Verdict::no;
}

}  // namespace

Verdict looks_like_command(ByteView bytes) noexcept {
  if (bytes.empty()) return Verdict::need_more;
  if (bytes[0] != '*') return Verdict::no;
  std::int64_t argc = 0;
  std::int64_t length = 0;
  std::size_t used = 0;
  Read r = read_length(bytes, argc, used);
  if (r != Read::done) return r == Read::need_more ? Verdict::need_more : Verdict::no;
  if (argc < 1 || argc > INT32_MAX) return Verdict::no;
  bytes = bytes.subspan(used);
  if (bytes.empty()) return Verdict::need_more;
  if (bytes[0] != '$') return Verdict::no;
  r = read_length(bytes, length, used);
  if (r != Read::done) return r == Read::need_more ? Verdict::need_more : Verdict::no;
  if (length < 1 || length > static_cast<std::int64_t>(kMaxName)) return Verdict::no;
  const auto size = static_cast<std::size_t>(length);
  const std::string_view rest = as_text(bytes.subspan(used));
  const std::string_view word = rest.substr(0, size);
  if (!word.empty() && !is_name(word)) return Verdict::no;
  if (word.size() < size) return Verdict::need_more;
  const Verdict end = begins_with(rest.substr(size, 2), "\r\n");
  if (end != Verdict::yes) return end;
  return find_command(word) != nullptr ? Verdict::yes : Verdict::maybe;
}

Verdict looks_like_inline(ByteView bytes, const Probe*& probe) noexcept {
  if (bytes.empty()) return Verdict::need_more;
  const Line line = read_line(bytes);
  if (line.verdict == Verdict::maybe) probe = line.probe;
  return line.verdict;
}

Verdict fits(const Probe& probe, ByteView reply) noexcept {
  if (reply.empty()) return Verdict::need_more;
  const std::string_view text = as_text(reply);
  if (text[0] == '-') {
    Verdict best = Verdict::no;
    for (const std::string_view error : kErrors) {
      const Verdict v = begins_with(text, error);
      if (v == Verdict::yes) return v;
      if (v == Verdict::need_more) best = v;
    }
    return best;
  }
  const std::string_view due = probe.reply;
  if (due.size() > 1) return begins_with(text, due);
  if (text[0] != due[0]) return Verdict::no;
  std::int64_t number = 0;
  std::size_t used = 0;
  const Read r = read_length(reply, number, used);
  return r == Read::done ? Verdict::yes : r == Read::need_more ? Verdict::need_more : Verdict::no;
}

}  // namespace olly::redis
