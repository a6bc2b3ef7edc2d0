#include "protocol/redis/parse.h"

#include <algorithm>

namespace olly::redis {
namespace {

constexpr std::uint64_t kMaxLeft = std::uint64_t{1} << 50;
constexpr std::size_t kMaxKind = 12;  // length of the longest word that is a Kind
constexpr std::size_t kMaxWord = 8;
constexpr std::size_t kMaxNumber = 21;  // digits of a length or an integer, and the sign

struct KindName {
  std::string_view name;
  Kind kind;
};
constexpr KindName kKinds[] = {
    {"message", Kind::message},           {"pmessage", Kind::pmessage},
    {"smessage", Kind::smessage},         {"invalidate", Kind::invalidate},
    {"subscribe", Kind::subscribe},       {"psubscribe", Kind::psubscribe},
    {"ssubscribe", Kind::ssubscribe},     {"unsubscribe", Kind::unsubscribe},
    {"punsubscribe", Kind::punsubscribe}, {"sunsubscribe", Kind::sunsubscribe},
};

Kind kind_of(std::string_view word) noexcept {
  for (const KindName& k : kKinds) {
    if (k.name == word) return k.kind;
  }
  return Kind::none;
}

// What a line of this type may consist of.
bool may_contain(char type, char c) noexcept {
  const bool digit = c >= '0' && c <= '9';
  switch (type) {
    case '(':
    case ':':
      return digit || c == '-' || c == '+';
    case ',':
      return digit || std::string_view("+-.eEinfaN").find(c) != std::string_view::npos;
    case '#':
      return c == 't' || c == 'f';
    case '_':
      return false;
    default:
      return c != '\n';
  }
}

}  // namespace

Read read_length(ByteView bytes, std::int64_t& number, std::size_t& used) noexcept {
  const std::string_view text = as_text(bytes);
  std::size_t i = 1;
  const bool negative = i < text.size() && text[i] == '-';
  if (negative) ++i;
  const std::size_t first = i;
  std::int64_t value = 0;
  for (; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i) {
    if (i - first >= 18) return Read::invalid;
    value = value * 10 + (text[i] - '0');
  }
  if (i == text.size()) return Read::need_more;
  if (i == first || text[i] != '\r') return Read::invalid;
  if (i + 1 == text.size()) return Read::need_more;
  if (text[i + 1] != '\n') return Read::invalid;
  number = negative ? -value : value;
  used = i + 2;
  return Read::done;
}

Read ReplyReader::read(ByteView bytes, std::size_t& used, std::uint64_t& skip) noexcept {
  used = 0;
  for (;;) {
    if (state_ == State::element && finished()) return Read::done;
    const ByteView rest = bytes.subspan(used);
    if (rest.empty()) return Read::need_more;
    std::size_t n = 0;
    Read r = Read::done;
    switch (state_) {
      case State::element:
        r = element(rest, n, skip);
        break;
      case State::line:
        r = line(rest, n);
        break;
      case State::chunk:
        r = chunk(rest, n, skip);
        break;
    }
    used += n;
    if (r != Read::done) return r;
  }
}

Read ReplyReader::element(ByteView bytes, std::size_t& used, std::uint64_t& skip) noexcept {
  const auto c = static_cast<char>(bytes[0]);
  switch (c) {
    case '$':
      return string(bytes, used, skip);
    case '=':
    case '!':
      resp3_ = true;
      return string(bytes, used, skip);
    case '*':
      return aggregate(bytes, used);
    case '%':
    case '~':
    case '>':
    case '|':
      resp3_ = true;
      return aggregate(bytes, used);
    case ',':
    case '#':
    case '_':
    case '(':
      resp3_ = true;
      return simple(bytes, used);
    case '+':
    case '-':
    case ':':
      return simple(bytes, used);
    case '.':
      return end_streamed(bytes, used);
    default:
      return Read::invalid;
  }
}

// "$", "=" and "!": a length, so many bytes, CRLF. "$?": chunks.
Read ReplyReader::string(ByteView bytes, std::size_t& used, std::uint64_t& skip) noexcept {
  const auto c = static_cast<char>(bytes[0]);
  const std::string_view text = as_text(bytes);
  if (bytes.size() > 1 && text[1] == '?') {
    if (c != '$' || (text.size() > 2 && text[2] != '\r')) return Read::invalid;
    if (text.size() < 4) return Read::need_more;
    if (text[3] != '\n') return Read::invalid;
    if (top()) type_ = c;
    resp3_ = started_ = true;
    kind_next_ = false;
    state_ = State::chunk;
    used = 4;
    return Read::done;
  }
  std::int64_t length = 0;
  std::size_t head = 0;
  const Read r = read_length(bytes, length, head);
  if (r != Read::done) return r;
  const bool null = length == -1 && c == '$';
  if ((length < 0 && !null) || length > kMaxLength) return Read::invalid;
  const bool is_top = top();
  const auto body = null ? 0 : static_cast<std::uint64_t>(length);
  const std::uint64_t size = null ? head : head + body + 2;
  const bool whole = size <= bytes.size();
  std::uint64_t wanted = 0;
  if (is_top && c == '!') wanted = std::min<std::uint64_t>(body, kMaxErrorCode + 1);
  if (kind_next_ && body <= kMaxKind) wanted = body;
  if (bytes.size() < head + wanted) return Read::need_more;
  if (whole && !null && (text[size - 2] != '\r' || text[size - 1] != '\n')) return Read::invalid;

  if (is_top) {
    type_ = c;
    null_ = null;
    if (c == '!') take_code(text.substr(head, wanted));
  }
  if (kind_next_ && body <= kMaxKind) kind_ = kind_of(text.substr(head, body));
  kind_next_ = false;
  started_ = true;
  took();
  if (whole) {
    used = size;
    return Read::done;
  }
  used = head + wanted;
  skip = size - used;
  return Read::skip;
}

Read ReplyReader::aggregate(ByteView bytes, std::size_t& used) noexcept {
  const auto c = static_cast<char>(bytes[0]);
  const std::string_view text = as_text(bytes);
  const bool streamed = text.size() > 1 && text[1] == '?';
  std::int64_t n = 0;
  if (streamed) {
    if (text.size() > 2 && text[2] != '\r') return Read::invalid;
    if (text.size() < 4) return Read::need_more;
    if (text[3] != '\n' || depth_ == kMaxStreamed) return Read::invalid;
    used = 4;
  } else {
    const Read r = read_length(bytes, n, used);
    if (r != Read::done) return r;
    if (n > kMaxCount || n < (c == '*' ? -1 : 0)) return Read::invalid;
  }
  started_ = true;
  kind_next_ = false;
  const bool attribute = c == '|';
  if (top() && !attribute) {
    type_ = c;
    null_ = n < 0;
    count_ = n;
    kind_next_ = !streamed && n >= 2 && (c == '*' || c == '>');
  }
  if (!attribute) took();  // it is an element itself; an attribute only goes before one
  if (streamed) {
    resp3_ = true;
    outer_[depth_++] = left_;
    left_ = kEndless;
    return Read::done;
  }
  if (n <= 0) return Read::done;
  left_ += static_cast<std::uint64_t>(n) * (c == '%' || attribute ? 2 : 1);
  return left_ - (depth_ > 0 ? kEndless : 0) > kMaxLeft ? Read::invalid : Read::done;
}

// Types that are one line. Only its beginning is needed.
Read ReplyReader::simple(ByteView bytes, std::size_t& used) noexcept {
  const auto c = static_cast<char>(bytes[0]);
  const std::string_view text = as_text(bytes);
  const bool is_top = top();
  const std::size_t wanted = c == ':'             ? kMaxNumber
                             : is_top && c == '-' ? kMaxErrorCode + 1
                             : is_top && c == '+' ? kMaxWord
                                                  : 0;
  const std::size_t end = text.substr(0, wanted + 2).find('\r');
  if (end == std::string_view::npos && text.size() < wanted + 2) {
    if (!std::all_of(text.begin() + 1, text.end(), [c](char b) { return may_contain(c, b); })) {
      return Read::invalid;
    }
    return Read::need_more;
  }
  const std::string_view content = text.substr(1, end == std::string_view::npos ? wanted : end - 1);
  if (c == ':') {
    // A length in all but its type; a leading "+" is allowed here.
    if (end == std::string_view::npos || content.empty()) return Read::invalid;
    std::int64_t value = 0;
    for (std::size_t i = content[0] == '-' || content[0] == '+' ? 1 : 0; i < content.size(); ++i) {
      if (content[i] < '0' || content[i] > '9') return Read::invalid;
      value = std::min(value, kMaxLength) * 10 + (content[i] - '0');
    }
    last_integer_ = content[0] == '-' ? -1 : value;
  }
  if (is_top) {
    type_ = c;
    null_ = c == '_';
    if (c == '-') take_code(content);
    if (c == '+') {
      word_ = content == "OK"       ? Word::ok
              : content == "QUEUED" ? Word::queued
              : content == "RESET"  ? Word::reset
                                    : Word::none;
    }
  }
  kind_next_ = false;
  started_ = true;
  line_type_ = c;
  state_ = State::line;
  used = 1;
  return Read::done;
}

// The rest of a line. A "\r" that is the last byte waits for its "\n".
Read ReplyReader::line(ByteView bytes, std::size_t& used) noexcept {
  const std::string_view text = as_text(bytes);
  const std::size_t end = text.find('\r');
  const std::string_view content = text.substr(0, end);
  for (const char c : content) {
    if (!may_contain(line_type_, c)) return Read::invalid;
  }
  used = content.size();
  if (end == std::string_view::npos || end + 1 == text.size()) return Read::need_more;
  if (text[end + 1] != '\n') return Read::invalid;
  used = end + 2;
  state_ = State::element;
  took();
  return Read::done;
}

// ";<length>\r\n<bytes>\r\n" until the length is 0.
Read ReplyReader::chunk(ByteView bytes, std::size_t& used, std::uint64_t& skip) noexcept {
  if (bytes[0] != ';') return Read::invalid;
  std::int64_t length = 0;
  const Read r = read_length(bytes, length, used);
  if (r != Read::done) return r;
  if (length < 0 || length > kMaxLength) return Read::invalid;
  if (length == 0) {
    state_ = State::element;
    took();
    return Read::done;
  }
  skip = static_cast<std::uint64_t>(length) + 2;
  return Read::skip;
}

Read ReplyReader::end_streamed(ByteView bytes, std::size_t& used) noexcept {
  if (depth_ == 0 || left_ != kEndless) return Read::invalid;
  if (bytes.size() > 1 && bytes[1] != '\r') return Read::invalid;
  if (bytes.size() < 3) return Read::need_more;
  if (bytes[2] != '\n') return Read::invalid;
  left_ = outer_[--depth_];
  used = 3;
  return Read::done;
}

// "WRONGTYPE Operation against ..." The server's own and most scripts' codes are in capitals.
void ReplyReader::take_code(std::string_view text) noexcept {
  const std::string_view word = text.substr(0, text.find(' '));
  if (word.empty() || word.size() > kMaxErrorCode) return;
  const bool code = std::all_of(word.begin(), word.end(), [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  });
  if (!code) return;
  std::copy(word.begin(), word.end(), code_.begin());
  code_size_ = static_cast<std::uint8_t>(word.size());
}

}  // namespace olly::redis
