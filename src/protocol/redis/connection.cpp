#include "protocol/redis/connection.h"

#include <algorithm>

#include "protocol/common/database.h"
#include "protocol/common/ending.h"
#include "protocol/redis/protocol.h"

namespace olly::redis {
namespace {

constexpr std::size_t kMaxPartials = 256;
// What the tracker counts for every parser (conntrack/tracker.cpp).
constexpr std::size_t kCounted = 80;

}  // namespace

std::unique_ptr<Partial> Pools::take_partial() {
  if (partials.empty()) return std::make_unique<Partial>();
  std::unique_ptr<Partial> p = std::move(partials.back());
  partials.pop_back();
  return p;
}

void Pools::give_partial(std::unique_ptr<Partial> partial) {
  if (partials.size() >= kMaxPartials) return;
  partial->exchange = nullptr;
  partial->begun = partial->by_line = false;
  partials.push_back(std::move(partial));
}

RedisConnection::RedisConnection(Connection& connection, ExchangeSink& sink, Pools& pools,
                                 std::array<bool, 2> from_start, bool lost) noexcept
    : connection_(connection),
      sink_(sink),
      pools_(pools),
      aligned_(from_start),
      in_step_(from_start[0] && from_start[1] && !lost) {
  if (in_step_) database_ = 0;
}

RedisConnection::~RedisConnection() {
  if (queue_) pools_.queues.give(std::move(queue_));
  if (partial_) pools_.give_partial(std::move(partial_));
}

ParseResult RedisConnection::parse(Direction d, const Window& w) noexcept {
  if (!direction_known_) {
    direction_known_ = true;
    request_direction_ = connection_.role == olly::Role::inbound    ? Direction::recv
                         : connection_.role == olly::Role::outbound ? Direction::send
                                                                    : d;
    // One stream may have been silent so far; a command may be outstanding all the same.
    if (w.position != 0 && in_step_) lose_step();
  }
  const ParseResult r = is_request(d) ? parse_request(w) : parse_reply(w);
  // The first bytes of a command are looked at again: what was before them still counts then.
  if (!is_request(d) || r.consumed > 0) {
    last_activity_ = std::max(last_activity_, w.last_mark().time);
  }
  return r;
}

// Everything up to the next call's first byte.
ParseResult RedisConnection::to_next_call(const Window& w) noexcept {
  std::size_t n = w.bytes.size();
  for (const reassembly::MarkRange& m : w.marks) {
    if (m.begin <= w.position || m.begin - w.position >= n) continue;
    n = static_cast<std::size_t>(m.begin - w.position);
    break;
  }
  return {ParseStatus::discard, n};
}

void RedisConnection::skipped(Direction d, std::uint64_t, const IoMark& mark) noexcept {
  last_activity_ = std::max(last_activity_, mark.time);
  if (!is_request(d)) {
    reply_last_ = mark;
  } else if (partial_) {
    partial_->last = mark;
    if (partial_->exchange != nullptr) partial_->exchange->request_last = mark;
  }
}

void RedisConnection::gap(Direction d, std::uint64_t, std::uint64_t) noexcept {
  if (direction_known_ && is_request(d)) {
    drop_partial(kLostBytes, {});
    probe_ = nullptr;
  } else if (direction_known_) {
    reply_loss();
  }
  lose_step();
  aligned_[static_cast<std::size_t>(d)] = false;
}

void RedisConnection::lose_step() noexcept {
  in_step_ = round_trip_ = false;
  outstanding_ = 0;
  wake_at_ = proven_ ? wake_at_ : 0;
  database_ = -1;
  in_multi_ = multi_select_ = multi_odd_ = false;
  reply_mode_ = ReplyMode::on;
}

// At a command's first byte.
void RedisConnection::regain_step(const Window& w) noexcept {
  if (in_step_ || !queue_empty()) return;
  const bool between = reply_aligned() && !reply_.started();
  const bool pause = w.mark_at(w.position).time >= last_activity_ + kQuiet;
  const bool quiet = pause && between && round_trip_ && outstanding_ == 0;
  const bool alone =
      one_at_a_time() && (between || !reply_aligned()) && w.call_begins_at(w.position);
  if (quiet || alone) {
    if (!between) reply_.begin();
    in_step_ = reply_aligned() = true;
    misses_ = 0;
  } else if (pause) {
    // Counted anew: a reply may have overtaken its command, or answered one that nobody saw.
    outstanding_ = 0;
    round_trip_ = false;
  }
}

void RedisConnection::drop_front() noexcept {
  queue_->pop();
  if (queue_->empty()) pools_.queues.give(std::move(queue_));
}

void RedisConnection::finish(Slot& slot, std::string_view incomplete,
                             std::string_view error) noexcept {
  Exchange* x = slot.exchange;
  if (x == nullptr) return;
  slot.exchange = nullptr;
  if (!error.empty()) add_no_answer(*x, error);
  x->incomplete = incomplete;
  sink_.finish(x);
}

void RedisConnection::finish_all(std::string_view incomplete, std::string_view error) noexcept {
  if (reply_.started() && !queue_empty() && !is_pushed()) mark_reply(queue_->front());
  while (!queue_empty()) {
    Slot& slot = queue_->front();
    if (slot.exchange != nullptr && database_ >= 0 && !slot.exchange->response_first.seen()) {
      add_namespace(*slot.exchange, database_);
    }
    if (slot.role == Role::select || slot.role == Role::exec || slot.role == Role::reset) {
      database_ = -1;
    }
    // A server that shuts down answers by going away.
    if (slot.role == Role::shutdown && incomplete == kClosed)
      finish(slot, {}, {});
    else
      finish(slot, incomplete, error);
    drop_front();
  }
  drop_partial(incomplete, error);
}

void RedisConnection::eof(Direction d, const IoMark&) noexcept {
  // The peer of a server may still read: its replies may follow. A client gets no more.
  if (direction_known_ && !is_request(d)) finish_all(kClosed, kErrorClosed);
}

void RedisConnection::timeout(Nanos) noexcept {
  // A blocking command waits as long as its client wants, and all behind it with it.
  if (queue_empty() || queue_->front().blocking || reply_.started()) return;
  for (std::size_t i = 0; i < queue_->size(); ++i) {
    if (queue_->at(i).blocking) return;
    finish(queue_->at(i), kTimeout, kErrorTimeout);
  }
}

void RedisConnection::tick(Nanos now) noexcept {
  if (wake_at_ == 0 || now < wake_at_) return;
  wake_at_ = 0;
  if (proven_)
    proven_ = false;  // the command that waited is read next
  else
    overtaken_ = true;
}

void RedisConnection::end(EndReason reason, Nanos, std::uint32_t error) noexcept {
  if (reason == EndReason::closed)
    finish_all(kClosed, socket_error(error));
  else
    finish_all(incomplete_of(reason), {});
}

Exchange* RedisConnection::current(Direction d) const noexcept {
  if (!direction_known_) return nullptr;
  if (is_request(d) && partial_) return partial_->exchange;
  if (queue_empty() || (!is_request(d) && reply_.started() && is_pushed())) return nullptr;
  return is_request(d) ? queue_->back().exchange : queue_->front().exchange;
}

// In step, between two commands, outside of whatever else a connection can be in (a subscription, a
// transaction): what is left are the database and what is known of how its client behaves.
std::optional<std::uint32_t> RedisConnection::rest() noexcept {
  const bool idle = direction_known_ && in_step_ && aligned_[0] && aligned_[1] && queue_empty() &&
                    !partial_ && probe_ == nullptr && !reply_.started() && wake_at_ == 0;
  const bool plain = !subscribed() && !in_multi_ && !multi_select_ && !multi_odd_ && !overtaken_ &&
                     !proven_ && reply_mode_ == ReplyMode::on && invalid_ == 0;
  if (!idle || !plain || database_ > 0xfffe) return std::nullopt;
  return (request_direction_ == Direction::send ? 1u : 0u) | (established_ ? 2u : 0u) |
         (pipelined_ ? 4u : 0u) | (resp3_ ? 8u : 0u) | std::uint32_t{singles_} << 8 |
         static_cast<std::uint32_t>(database_ + 1) << 16;
}

void RedisConnection::resume(std::uint32_t rested) noexcept {
  direction_known_ = in_step_ = true;
  request_direction_ = (rested & 1) != 0 ? Direction::send : Direction::recv;
  established_ = (rested & 2) != 0;
  pipelined_ = (rested & 4) != 0;
  resp3_ = (rested & 8) != 0;
  singles_ = static_cast<std::uint8_t>(rested >> 8);
  database_ = static_cast<int>(rested >> 16) - 1;
}

std::size_t RedisConnection::memory() const noexcept {
  std::size_t n = sizeof *this - kCounted;
  if (queue_) n += sizeof *queue_ + queue_->bytes();
  if (partial_) n += sizeof *partial_ + kMaxText;
  return n;
}

namespace {

class Redis final : public Protocol {
 public:
  Verdict detect(Direction, ByteView bytes) const noexcept override {
    const Verdict command = looks_like_command(bytes);
    if (command != Verdict::no) return command;
    const Probe* probe = nullptr;
    return looks_like_inline(bytes, probe);
  }
  std::unique_ptr<ProtocolParser> open(Connection& connection, ExchangeSink& sink,
                                       std::array<bool, 2> from_start,
                                       bool lost) noexcept override {
    return std::make_unique<RedisConnection>(connection, sink, pools_, from_start, lost);
  }
  std::unique_ptr<ProtocolParser> resume(Connection& connection, ExchangeSink& sink,
                                         std::uint32_t rested) noexcept override {
    auto parser =
        std::make_unique<RedisConnection>(connection, sink, pools_, std::array{true, true}, false);
    parser->resume(rested);
    return parser;
  }

  // A pipeline leaves in one call, and so do its replies.
  std::uint32_t bytes_per_call() const noexcept override { return 64 * 1024; }

 private:
  Pools pools_;
};

}  // namespace

std::unique_ptr<Protocol> make_protocol() { return std::make_unique<Redis>(); }

}  // namespace olly::redis
