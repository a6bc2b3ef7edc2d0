// The command stream of a connection: arrays of bulk strings, and inline commands.
#include <algorithm>

#include "protocol/common/ending.h"
#include "protocol/redis/connection.h"

namespace olly::redis {

ParseResult RedisConnection::parse_request(const Window& w) noexcept {
  if (partial_) return read_arguments(w, 0);
  if (w.bytes.empty()) return {};
  if (!request_aligned()) return find_request(w);
  std::size_t blank = 0;
  while (blank < w.bytes.size() && (w.bytes[blank] == '\r' || w.bytes[blank] == '\n')) ++blank;
  if (blank > 0) return {ParseStatus::more, blank};  // the server ignores empty lines
  return w.bytes[0] == '*' ? read_array(w) : read_line(w);
}

// Only the beginning of a call is looked at: in the middle of a value everything may stand.
ParseResult RedisConnection::find_request(const Window& w) noexcept {
  if (w.call_begins_at(w.position)) {
    switch (looks_like_command(w.bytes)) {
      case Verdict::yes:
      case Verdict::maybe:
        request_aligned() = true;
        return read_array(w);
      case Verdict::need_more:
        return {};
      case Verdict::no:
        break;
    }
  }
  if (++misses_ >= kMaxMisses) return {ParseStatus::opaque};
  return to_next_call(w);
}

ParseResult RedisConnection::read_line(const Window& w) noexcept {
  if (!established_) {
    switch (looks_like_inline(w.bytes, probe_)) {
      case Verdict::no:
        return bad_request(w);
      default:
        return {};  // the reply tells
    }
  }
  const std::string_view text = as_text(w.bytes);
  const std::size_t end = text.substr(0, kMaxInline).find('\n');
  std::string_view line = text.substr(0, std::min(end, kMaxInline));
  if (end == std::string_view::npos)
    return line.size() < kMaxInline ? ParseResult{} : bad_request(w);
  if (line.ends_with('\r')) line.remove_suffix(1);
  const bool printable = std::all_of(line.begin(), line.end(), [](char c) {
    const auto u = static_cast<unsigned char>(c);
    return (u >= 0x20 && u != 0x7f) || c == '\t';
  });
  const char lower = static_cast<char>(text[0] | 0x20);
  if (!printable || lower < 'a' || lower > 'z') return bad_request(w);
  int words = 0;
  if (!split_inline(line, [&](std::string_view) { ++words; })) return bad_request(w);
  regain_step(w);
  start(w, words, true);
  CommandText& t = partial_->text;
  split_inline(line, [&](std::string_view word) {
    if (t.wants(word.size()))
      t.argument(word);
    else
      t.masked();
  });
  partial_->last = w.mark_at(w.position + end);
  return on_command(end + 1);
}

ParseResult RedisConnection::read_array(const Window& w) noexcept {
  std::int64_t argc = 0;
  std::size_t used = 0;
  const Read r = read_length(w.bytes, argc, used);
  if (r == Read::need_more) return {};
  if (r != Read::done || argc > INT32_MAX) return bad_request(w);
  if (argc <= 0) return {ParseStatus::more, used};  // the server ignores it
  if (!established_) {
    const Verdict v = looks_like_command(w.bytes);
    if (v == Verdict::need_more) return {};
    if (v == Verdict::no) return bad_request(w);
    established_ = true;
  }
  regain_step(w);
  start(w, argc, false);
  return read_arguments(w, used);
}

void RedisConnection::start(const Window& w, std::int64_t argc, bool by_line) noexcept {
  if (proven_) proven_ = false, wake_at_ = 0;
  partial_ = pools_.take_partial();
  partial_->text.begin(argc);
  partial_->position = w.position;
  partial_->first = partial_->last = w.mark_at(w.position);
  partial_->by_line = by_line;
}

// Whole arguments are taken as they come, and what needs not be read is skipped by its length.
ParseResult RedisConnection::read_arguments(const Window& w, std::size_t used) noexcept {
  CommandText& t = partial_->text;
  while (t.arguments() < t.argc()) {
    const ByteView rest = w.bytes.subspan(used);
    if (rest.empty()) return pause(w, used, 0);
    std::int64_t length = 0;
    std::size_t head = 0;
    const Read r = rest[0] == '$' ? read_length(rest, length, head) : Read::invalid;
    if (r == Read::need_more) return pause(w, used, 0);
    if (r != Read::done || length < 0 || length > kMaxLength) return bad_request(w);
    const std::uint64_t size = head + static_cast<std::uint64_t>(length) + 2;
    const bool whole = size <= rest.size();
    if (whole && (rest[size - 2] != '\r' || rest[size - 1] != '\n')) return bad_request(w);
    if (t.wants(static_cast<std::uint64_t>(length))) {
      if (!whole) return pause(w, used, 0);
      t.argument(as_text(rest.subspan(head, static_cast<std::size_t>(length))));
    } else {
      t.masked();
      if (!whole) return pause(w, used + head, size - head);
    }
    used += size;
  }
  if (used > 0) partial_->last = w.mark_at(w.position + used - 1);
  return on_command(used);
}

// The rest of the command comes later.
ParseResult RedisConnection::pause(const Window& w, std::size_t used, std::uint64_t skip) noexcept {
  if (used > 0) partial_->last = w.mark_at(w.position + used - 1);
  if (in_step_ && !partial_->begun && partial_->text.arguments() > 0) {
    begin_exchange();
    if (partial_->exchange != nullptr) sink_.request(*partial_->exchange);
  }
  if (partial_->exchange != nullptr) partial_->exchange->request_last = partial_->last;
  return {skip > 0 ? ParseStatus::more : ParseStatus::need_more, used, skip};
}

void RedisConnection::begin_exchange() noexcept {
  Partial& p = *partial_;
  p.begun = true;
  if (connection_.role == olly::Role::unknown) {
    connection_.role = side() == Side::server ? olly::Role::inbound : olly::Role::outbound;
  }
  p.exchange = sink_.begin(connection_, side(), p.position, p.first);
  if (p.exchange == nullptr) return;
  p.exchange->request_first = p.first;
  p.exchange->request_last = p.last;
  add_command(*p.exchange, connection_, p.text, p.by_line);
}

// A whole command, out of step: it can only be counted.
ParseResult RedisConnection::on_uncounted(std::size_t used) noexcept {
  const CommandText& t = partial_->text;
  const Command* c = t.command();
  const Role role = c != nullptr ? c->role : Role::plain;
  const bool last = role == Role::monitor || role == Role::sync ||
                    t.reply_mode() == ReplyMode::off || t.reply_mode() == ReplyMode::skip;
  drop_partial(kLostBytes, {});
  if (last) return {ParseStatus::opaque, used};
  if (is_subscription(role)) return {ParseStatus::frame, used};
  ++outstanding_;
  return {ParseStatus::frame, used};
}

ParseResult RedisConnection::on_command(std::size_t used) noexcept {
  if (!in_step_) return on_uncounted(used);
  const CommandText& t = partial_->text;
  const Role role = t.command() != nullptr ? t.command()->role : Role::plain;
  const ReplyMode asked = t.reply_mode();
  const bool silences = asked == ReplyMode::off || asked == ReplyMode::skip;
  const bool was_silent = reply_mode_ != ReplyMode::on;
  const bool reply = takes_reply();
  // What was asked for within MULTI takes effect in the middle of EXEC's reply.
  const bool lost = (silences && in_multi_) ||
                    (!reply && (role == Role::monitor || role == Role::sync)) ||
                    (queue_ && queue_->size() >= kMaxPipeline);
  if (role == Role::multi) in_multi_ = true;
  if (role == Role::exec || role == Role::discard || role == Role::reset) in_multi_ = false;
  put(reply, asked == ReplyMode::on && was_silent);
  return {lost ? ParseStatus::opaque : ParseStatus::frame, used};
}

// Whether this command will be answered; what it says of the replies to come counts from here on.
bool RedisConnection::takes_reply() noexcept {
  const CommandText& t = partial_->text;
  const ReplyMode before = reply_mode_;
  if (before == ReplyMode::skip) reply_mode_ = ReplyMode::on;
  switch (t.reply_mode()) {
    case ReplyMode::on:
      reply_mode_ = ReplyMode::on;
      return true;
    case ReplyMode::off:
      reply_mode_ = ReplyMode::off;
      return false;
    case ReplyMode::skip:
      if (before != ReplyMode::off) reply_mode_ = ReplyMode::skip;
      return false;
    case ReplyMode::unchanged:
      break;
  }
  if (before == ReplyMode::off && t.command() != nullptr && t.command()->role == Role::reset) {
    reply_mode_ = ReplyMode::on;
    return true;
  }
  return before == ReplyMode::on;
}

void RedisConnection::put(bool reply, bool reply_on) noexcept {
  Partial& p = *partial_;
  const Command* c = p.text.command();
  const Role role = c != nullptr ? c->role : Role::plain;
  const bool announced = p.begun;
  if (!announced) begin_exchange();
  Exchange* x = p.exchange;
  if (x != nullptr) {
    x->request_last = p.last;
    add_text(*x, p.text, p.by_line);
    if (!announced) sink_.request(*x);
  }
  p.exchange = nullptr;
  overtaken_ = false;
  if (!reply) {
    if (x != nullptr && queue_empty() && database_ >= 0) add_namespace(*x, database_);
    if (role == Role::select) {
      if (queue_empty())
        database_ = -1;
      else
        queue_->back().database_after = false;
    }
    sink_.finish(x);
    pools_.give_partial(std::move(partial_));
    return;
  }
  if (!queue_) queue_ = pools_.queues.take();
  Slot& slot = queue_->push();
  slot.exchange = x;
  slot.role = role;
  slot.known = c != nullptr;
  slot.blocking = c != nullptr && c->blocking;
  slot.reply_on = reply_on;
  slot.database = p.text.database();
  slot.confirmations = p.text.argc() > 1 ? p.text.argc() - 1 : -1;
  if (queue_->size() > 1) pipelined_ = true;
  pools_.give_partial(std::move(partial_));
}

// Not a command. What it was, and what it hid, cannot be known.
ParseResult RedisConnection::bad_request(const Window& w) noexcept {
  const bool was_in_step = in_step_;
  drop_partial(kUnreadable, {});
  lose_step();
  request_aligned() = false;
  probe_ = nullptr;
  if (!was_in_step) {
    return ++misses_ < kMaxMisses ? to_next_call(w) : ParseResult{ParseStatus::opaque};
  }
  if (++invalid_ >= kMaxInvalid) return {ParseStatus::opaque};
  return {ParseStatus::invalid, std::min<std::size_t>(1, w.bytes.size())};
}

void RedisConnection::drop_partial(std::string_view incomplete, std::string_view error) noexcept {
  if (!partial_) return;
  Slot slot;
  slot.exchange = partial_->exchange;
  partial_->exchange = nullptr;
  finish(slot, incomplete, error);
  pools_.give_partial(std::move(partial_));
}

}  // namespace olly::redis
