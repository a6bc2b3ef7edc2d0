// The reply stream of a connection.
#include <algorithm>

#include "protocol/common/ending.h"
#include "protocol/redis/connection.h"

namespace olly::redis {
namespace {

// Elements that pub/sub's arrays have.
bool has_pushed_form(const ReplyReader& r) noexcept {
  switch (r.kind()) {
    case Kind::message:
    case Kind::smessage:
      return r.count() == 3;
    case Kind::pmessage:
      return r.count() == 4;
    case Kind::none:
    case Kind::invalidate:
      return false;
    default:
      return r.count() == 3 && r.last_integer() >= 0;
  }
}

// A RESP2 client that has subscribed may send no others.
bool fits_subscriber(Role role) noexcept {
  return is_subscription(role) || role == Role::ping || role == Role::quit || role == Role::reset;
}

bool confirms(Kind kind, Role role) noexcept {
  return is_confirmation(kind) && is_subscription(role) &&
         static_cast<int>(kind) - static_cast<int>(Kind::subscribe) ==
             static_cast<int>(role) - static_cast<int>(Role::subscribe);
}

bool begins_reply(std::uint8_t c) noexcept {
  return c != 0 &&
         std::string_view("+-:$*_#,(!=%~>|").find(static_cast<char>(c)) != std::string_view::npos;
}

}  // namespace

ParseResult RedisConnection::parse_reply(const Window& w) noexcept {
  if (!reply_.started()) {
    if (w.bytes.empty()) return {};
    if (!reply_aligned()) return find_reply(w);
    if (!established_) return probe_reply(w);
    const std::uint8_t c = w.bytes[0];
    if (!queue_empty() && queue_->front().role == Role::sync && c != '+' && c != '-') {
      reply_first_ = reply_last_ = w.mark_at(w.position);
      mark_reply(queue_->front());
      finish(queue_->front(), {}, {});
      return {ParseStatus::opaque};
    }
    if (waits_for_command(w)) return {};
    reply_first_ = reply_last_ = w.mark_at(w.position);
  }
  std::size_t used = 0;
  std::uint64_t skip = 0;
  const Read r = reply_.read(w.bytes, used, skip);
  if (r == Read::invalid) return bad_reply(w);
  if (used > 0) reply_last_ = w.mark_at(w.position + used - 1);
  if (r == Read::need_more) return {ParseStatus::need_more, used};
  if (r == Read::skip) return {ParseStatus::more, used, skip};
  return on_reply(used);
}

// Where nothing can be outstanding when the next command comes, what is before it needs no look.
ParseResult RedisConnection::find_reply(const Window& w) noexcept {
  if (!one_at_a_time() && w.call_begins_at(w.position) && begins_reply(w.bytes[0])) {
    reply_aligned() = true;
    return parse_reply(w);
  }
  return to_next_call(w);
}

// Is it Redis? The inline command waits for this.
ParseResult RedisConnection::probe_reply(const Window& w) noexcept {
  if (probe_ == nullptr) {
    if (in_step_) return {};
    return to_next_call(w);
  }
  switch (fits(*probe_, w.bytes)) {
    case Verdict::no:
      return {ParseStatus::invalid};
    case Verdict::need_more:
      return {};
    default:
      break;
  }
  established_ = proven_ = true;
  wake_at_ = std::max<Nanos>(1, w.last_mark().time);
  return {};
}

// Threads stamp a call after it has moved its bytes: the command may come a moment later.
bool RedisConnection::waits_for_command(const Window& w) noexcept {
  if (!in_step_ || !queue_empty() || proven_) return proven_;
  const std::uint8_t c = w.bytes[0];
  if (c == '>' || (c == '*' && subscribed() && !resp3_) || overtaken_) return false;
  if (wake_at_ == 0) {
    wake_at_ = w.mark_at(w.position).time + kOvertakeTime;
    return true;
  }
  return w.last_mark().time < wake_at_;
}

ParseResult RedisConnection::on_reply(std::size_t used) noexcept {
  if (reply_.resp3()) resp3_ = true;
  ParseResult result{ParseStatus::frame, used};
  if (is_pushed())
    on_pushed();
  else
    result = on_answer(used);
  reply_.begin();
  return result;
}

// In RESP2 what was pushed is an array like others; which arrays those can be is known by what the
// oldest command without an answer may get.
bool RedisConnection::is_pushed() const noexcept {
  if (reply_.type() == '>') return true;
  if (reply_.type() != '*' || resp3_ || !has_pushed_form(reply_)) return false;
  if (subscribed()) return true;
  if (!queue_empty()) {
    const Role role = queue_->front().role;
    return is_message(reply_.kind()) ? fits_subscriber(role) : is_subscription(role);
  }
  return in_step_ || outstanding_ == 0;
}

// In the order in which the server counts: channels and patterns together, shard channels apart.
void RedisConnection::note_subscriptions() noexcept {
  const std::int64_t count = std::max<std::int64_t>(0, reply_.last_integer());
  switch (reply_.kind()) {
    case Kind::subscribe:
    case Kind::unsubscribe:
      channels_ = std::max<std::int64_t>(0, count - patterns_);
      break;
    case Kind::psubscribe:
    case Kind::punsubscribe:
      patterns_ = std::max<std::int64_t>(0, count - channels_);
      break;
    case Kind::ssubscribe:
    case Kind::sunsubscribe:
      shard_channels_ = count;
      break;
    default:
      break;
  }
}

void RedisConnection::on_pushed() noexcept {
  const Kind kind = reply_.kind();
  if (!is_confirmation(kind)) return;
  note_subscriptions();
  if (queue_empty() || !confirms(kind, queue_->front().role)) return;
  Slot& slot = queue_->front();
  mark_reply(slot);
  if (slot.confirmations > 0) --slot.confirmations;
  if (!confirmed(slot)) return;
  finish(slot, {}, {});
  drop_front();
}

// Whether it has all its confirmations. Without arguments all that was subscribed is given up.
bool RedisConnection::confirmed(const Slot& slot) const noexcept {
  if (slot.confirmations >= 0) return slot.confirmations == 0;
  return slot.role == Role::unsubscribe    ? channels_ == 0
         : slot.role == Role::punsubscribe ? patterns_ == 0
                                           : shard_channels_ == 0;
}

// A reply to no command that is known.
void RedisConnection::on_surplus() noexcept {
  if (in_step_) lose_step();
  if (outstanding_ > 0) {
    --outstanding_;
    round_trip_ = true;
  } else {
    round_trip_ = false;
  }
}

ParseResult RedisConnection::on_answer(std::size_t used) noexcept {
  wake_at_ = 0;
  overtaken_ = false;
  if (!queue_empty() && is_subscription(queue_->front().role) && !reply_.is_error() &&
      reply_.word() != Word::queued) {
    // More confirmations are not to come when something else does.
    if (queue_->front().confirmations >= 0) {
      reply_loss();
      lose_step();
      return {ParseStatus::frame, used};
    }
    finish(queue_->front(), {}, {});
    drop_front();
  }
  if (queue_empty()) {
    on_surplus();
    return {ParseStatus::frame, used};
  }
  Slot slot = queue_->front();
  // Replies were switched off, and are refused to be switched on: then they never were off, and
  // this answers another command.
  if (slot.reply_on && reply_.is_error()) return {ParseStatus::opaque, used};
  mark_reply(slot);
  if (slot.exchange != nullptr && reply_.is_error()) {
    add_refusal(*slot.exchange, reply_.error_code(), slot.known);
  }
  finish(slot, {}, {});
  drop_front();
  const bool refused = reply_.is_error();
  const bool odd = slot.role == Role::exec && multi_odd_ && !reply_.is_null();
  const bool ends = !refused && (slot.role == Role::sync || odd ||
                                 (slot.role == Role::monitor && reply_.word() == Word::ok));
  apply(slot);
  invalid_ = 0;
  if (queue_empty() && !pipelined_ && singles_ < kSingles) ++singles_;
  return {ends ? ParseStatus::opaque : ParseStatus::frame, used};
}

// What the reply says of those to come.
void RedisConnection::apply(const Slot& slot) noexcept {
  if (reply_.word() == Word::queued) {
    multi_select_ |= slot.role == Role::select;
    multi_odd_ |= is_subscription(slot.role) || slot.role == Role::hello;
  } else if (slot.role == Role::exec || slot.role == Role::discard) {
    if (multi_select_ && slot.role == Role::exec && !reply_.is_error() && !reply_.is_null()) {
      database_ = -1;
    }
    multi_select_ = multi_odd_ = false;
  } else if (slot.role == Role::select && reply_.word() == Word::ok) {
    database_ = slot.database;
  } else if (slot.role == Role::hello && !reply_.is_error()) {
    resp3_ = reply_.type() == '%';
  } else if (slot.role == Role::reset && reply_.word() == Word::reset) {
    database_ = 0;
    channels_ = patterns_ = shard_channels_ = 0;
    resp3_ = multi_select_ = multi_odd_ = false;
  }
  if (!slot.database_after) database_ = -1;
}

void RedisConnection::mark_reply(Slot& slot) noexcept {
  Exchange* x = slot.exchange;
  if (x == nullptr) return;
  if (!x->response_first.seen()) {
    x->response_first = reply_first_;
    if (database_ >= 0) add_namespace(*x, database_);
  }
  x->response_last = reply_last_;
}

ParseResult RedisConnection::bad_reply(const Window& w) noexcept {
  const bool was_in_step = in_step_;
  reply_loss();
  lose_step();
  if (!was_in_step) return to_next_call(w);
  if (++invalid_ >= kMaxInvalid) return {ParseStatus::opaque};
  return {ParseStatus::invalid, std::min<std::size_t>(1, w.bytes.size())};
}

// The reply under way is not whole; those behind it cannot be told apart.
void RedisConnection::reply_loss() noexcept {
  if (reply_.started() && !queue_empty() && !is_pushed()) mark_reply(queue_->front());
  while (!queue_empty()) {
    finish(queue_->front(), kLostBytes, {});
    drop_front();
  }
  reply_.begin();
  reply_aligned() = false;
}

}  // namespace olly::redis
