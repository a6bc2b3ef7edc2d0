#include "protocol/postgresql/connection.h"

#include <algorithm>

#include "protocol/common/ending.h"
#include "protocol/postgresql/attributes.h"
#include "protocol/postgresql/protocol.h"

namespace olly::postgresql {
namespace {

std::string_view code_of(const std::array<char, 5>& code) noexcept {
  return code[0] == '\0' ? std::string_view{} : std::string_view{code.data(), code.size()};
}

}  // namespace

PgConnection::PgConnection(Connection& connection, ExchangeSink& sink, Shared& shared,
                           bool lost) noexcept
    : connection_(connection), sink_(sink), shared_(shared) {
  if (lost) front_ = Front::lost, back_ = Back::lost;
}

PgConnection::PgConnection(Connection& connection, ExchangeSink& sink, Shared& shared,
                           Rested&& rested) noexcept
    : connection_(connection),
      sink_(sink),
      shared_(shared),
      statements_(std::move(rested.statements)),
      portals_(std::move(rested.portals)),
      database_(std::move(rested.database)),
      front_direction_(rested.front_direction),
      front_(Front::messages),
      direction_known_(true),
      backslashes_(rested.backslashes),
      synchronised_(rested.synchronised) {}

PgConnection::~PgConnection() {
  if (steps_) shared_.steps.give(std::move(steps_));
}

Step& PgConnection::push(Step::Kind kind, const Window& w) noexcept {
  if (!steps_) steps_ = shared_.steps.take();
  Step& step = steps_->push();
  step.kind = kind;
  step.position = w.position;
  step.mark = w.mark_at(w.position);
  return step;
}

void PgConnection::pop() noexcept {
  steps_->front() = Step{};  // lets go of the statement
  steps_->pop();
  if (steps_->empty()) shared_.steps.give(std::move(steps_));
}

// Which direction is the client's: only it sends a first message; else whose turn the bytes are.
bool PgConnection::learn_direction(Direction d, const Window& w) noexcept {
  Startup first;
  const Error error = parse_first(w.bytes, first);
  if (error == Error::incomplete) return false;
  if (error == Error::none) {
    front_direction_ = d;
  } else {
    const bool front = parse_turn(w.bytes, Sender::frontend) == Error::none;
    front_direction_ = front ? d : opposite(d);
    front_ = Front::lost;
    back_ = Back::lost;
  }
  direction_known_ = true;
  return true;
}

ParseResult PgConnection::parse(Direction d, const Window& w) noexcept {
  if (w.bytes.empty()) return {};
  if (!direction_known_ && !learn_direction(d, w)) return {};
  return is_front(d) ? front(w) : back(w);
}

// A boundary: the backend has said ReadyForQuery and nothing since, and here a call begins with a
// message. Where a single turn was open whose answer lost bytes, the client's going on does, too.
ParseResult PgConnection::search_front(const Window& w) noexcept {
  if ((boundary_ || broken_) && w.call_begins_at(w.position)) {
    Header h;
    const Error error = parse_header(w.bytes, Sender::frontend, h);
    if (error == Error::incomplete) return {};
    if (error == Error::none &&
        std::string_view("QPBEDCSFX").find(h.type) != std::string_view::npos) {
      end_broken();
      settle_trial(true);
      front_ = Front::messages;
      back_ = Back::messages;
      trial_ = true;
      synchronised_ = true;
      boundary_ = chain_ = skip_to_sync_ = starting_ = false;
      return front(w);
    }
  }
  if (broken_) end_broken();
  if (!synchronised_ && ++unsynchronised_ > kMaxUnsynchronised) {
    return {ParseStatus::invalid, w.bytes.size()};
  }
  return {ParseStatus::discard, w.bytes.size()};
}

ParseResult PgConnection::search_back(const Window& w) noexcept {
  const std::size_t n = std::min(w.bytes.size(), tail_.size());
  std::copy(tail_.begin() + static_cast<std::ptrdiff_t>(n), tail_.end(), tail_.begin());
  std::copy(w.bytes.end() - static_cast<std::ptrdiff_t>(n), w.bytes.end(),
            tail_.end() - static_cast<std::ptrdiff_t>(n));
  boundary_ = is_exact(tail_, Sender::backend) && tail_[0] == 'Z';
  if (broken_) {
    mark_response(w.last_mark());
    settle_at_ = boundary_ ? w.last_mark().time + kTrialTime : 0;
  }
  if (!synchronised_ && ++unsynchronised_ > kMaxUnsynchronised) {
    return {ParseStatus::invalid, w.bytes.size()};
  }
  return {ParseStatus::discard, w.bytes.size()};
}

void PgConnection::gap(Direction d, std::uint64_t, std::uint64_t) noexcept {
  if (!direction_known_) {
    front_ = Front::lost;
    back_ = Back::lost;
    return;
  }
  if (is_front(d))
    lose_front();
  else
    lose_back();
}

// What was asked for before is answered before: the backend goes on until the queue is empty.
void PgConnection::lose_front() noexcept {
  if (front_ == Front::over) return;
  front_ = Front::lost;
  chain_ = false;
  statements_.clear();  // Parse and Close may have been in it
  portals_.clear();
  if (idle() && back_ == Back::messages) {
    back_ = Back::lost;
    tail_ = {};
    boundary_ = false;
  }
}

// The answer under way is broken. Behind it, only what no other turn can be mistaken for.
void PgConnection::lose_back() noexcept {
  boundary_ = false;
  tail_ = {};
  overtake_at_ = 0;
  if (back_ == Back::lost) return;
  back_ = Back::lost;
  front_ = front_ == Front::over ? front_ : Front::lost;
  settle_trial(false);
  starting_ = chain_ = false;
  if (idle()) return;
  std::size_t turns = 0;
  for (std::size_t i = 0; i < steps_->size(); ++i) {
    const Step::Kind kind = steps_->at(i).kind;
    turns += kind == Step::Kind::query || kind == Step::Kind::sync || kind == Step::Kind::function;
  }
  broken_ = turns == 1;
  if (broken_) return;
  lose_all();
}

// Nothing can be said of the answers of what is open.
void PgConnection::lose_all() noexcept {
  settle_trial(false);
  while (!idle()) {
    // NOLINTNEXTLINE(clang-analyzer-cplusplus.Move): idle() has asked steps_
    Step& step = steps_->front();
    if (step.exchange != nullptr) {
      step.exchange->response_first = step.exchange->response_last = {};
    }
    step.code = {};
    step.rows_known = false;
    finish(step, kLostBytes, {});
    pop();
  }
  front_ = front_ == Front::over ? front_ : Front::lost;
  back_ = Back::lost;
  boundary_ = broken_ = chain_ = skip_to_sync_ = starting_ = false;
  overtake_at_ = 0;
  tail_ = {};
}

// The answer that lost bytes is over: the client has gone on.
void PgConnection::end_broken() noexcept {
  if (!broken_) return;
  broken_ = false;
  settle_at_ = 0;
  while (!idle()) {
    // NOLINTNEXTLINE(clang-analyzer-cplusplus.Move): idle() has asked steps_
    steps_->front().rows_known = false;
    finish(steps_->front(), kLostBytes, {});
    pop();
  }
}

void PgConnection::finish(Step& step, std::string_view incomplete,
                          std::string_view error) noexcept {
  Exchange* x = step.exchange;
  if (x == nullptr) return;
  step.exchange = nullptr;
  // What came before an error is no result.
  const std::int64_t rows = step.rows_known && step.code[0] == '\0' ? step.rows : -1;
  if (trial_ && incomplete.empty() && error.empty()) {
    held_.push_back({x, step.code, rows});
    return;
  }
  const std::string_view code = code_of(step.code);
  add_outcome(*x, {code, error, incomplete.empty() ? rows : -1});
  // An error is an answer, whatever became of the connection.
  x->incomplete = code.empty() ? incomplete : std::string_view{};
  sink_.finish(x);
}

void PgConnection::settle_trial(bool believed) noexcept {
  settle_at_ = 0;
  trial_ = trial_ && !idle();
  for (const Held& held : held_) {
    if (believed) {
      add_outcome(*held.exchange, {code_of(held.code), {}, held.rows});
    } else {
      held.exchange->response_first = held.exchange->response_last = {};
      held.exchange->incomplete = kLostBytes;
    }
    sink_.finish(held.exchange);
  }
  held_.clear();
}

void PgConnection::finish_all(std::string_view incomplete, std::string_view error) noexcept {
  trial_ = false;
  settle_trial(true);
  while (!idle()) {
    if (broken_)
      finish(steps_->front(), kLostBytes, {});
    else
      // NOLINTNEXTLINE(clang-analyzer-cplusplus.Move): idle() has asked steps_
      finish(steps_->front(), incomplete, error);
    pop();
  }
  broken_ = false;
}

void PgConnection::mark_request(const IoMark& mark) noexcept {
  if (idle()) return;
  Exchange* x = steps_->back().exchange;
  if (x != nullptr && !x->response_first.seen()) x->request_last = mark;
}

void PgConnection::mark_response(const IoMark& mark) noexcept {
  if (idle()) return;
  Exchange* x = steps_->front().exchange;
  if (x == nullptr) return;
  if (!x->response_first.seen()) x->response_first = mark;
  x->response_last = mark;
}

void PgConnection::skipped(Direction d, std::uint64_t, const IoMark& mark) noexcept {
  if (is_front(d))
    mark_request(mark);
  else
    mark_response(mark);
}

void PgConnection::eof(Direction d, const IoMark&) noexcept {
  // A server that reads the end may still answer. A client that does gets no more.
  if (!direction_known_ || is_front(d)) return;
  finish_all(kClosed, kErrorClosed);
}

void PgConnection::timeout(Nanos) noexcept {
  if (!held_.empty()) settle_trial(true);
  if (idle()) return;
  for (std::size_t i = 0; i < steps_->size(); ++i) {
    Step& step = steps_->at(i);
    if (step.exchange == nullptr || step.exchange->response_first.seen()) continue;
    add_outcome(*step.exchange, {{}, kErrorTimeout, -1});
    step.exchange->incomplete = kTimeout;
    sink_.finish(step.exchange);
    step.exchange = nullptr;
  }
}

Nanos PgConnection::wake_at() const noexcept {
  if (overtake_at_ == 0 || settle_at_ == 0) return std::max(overtake_at_, settle_at_);
  return std::min(overtake_at_, settle_at_);
}

void PgConnection::tick(Nanos now) noexcept {
  if (settle_at_ != 0 && now >= settle_at_) {
    if (broken_) end_broken();
    settle_trial(true);
  }
  if (overtake_at_ != 0 && now >= overtake_at_) {
    overtake_at_ = 0;
    overtake_expired_ = true;
  }
}

void PgConnection::end(EndReason reason, Nanos, std::uint32_t error) noexcept {
  if (reason == EndReason::closed)
    finish_all(kClosed, socket_error(error));
  else
    finish_all(incomplete_of(reason), {});
}

Exchange* PgConnection::current(Direction d) const noexcept {
  if (!direction_known_ || idle()) return nullptr;
  if (!is_front(d)) return steps_->front().exchange;
  // A Sync belongs to the Execute before it.
  for (std::size_t i = steps_->size(); i > 0 && i + 2 > steps_->size(); --i) {
    if (Exchange* x = steps_->at(i - 1).exchange) return x;
  }
  return nullptr;
}

// Between two turns, with nothing in doubt.
std::optional<std::uint32_t> PgConnection::rest() noexcept {
  const bool between = direction_known_ && front_ == Front::messages && back_ == Back::messages &&
                       idle() && held_.empty() && wake_at() == 0;
  const bool plain = !starting_ && !chain_ && !skip_to_sync_ && !broken_ && !trial_ &&
                     !overtake_expired_ && !skipped_ && !skipped_bound_;
  if (!between || !plain) return std::nullopt;
  Rested rested{std::move(database_), std::move(statements_), std::move(portals_),
                front_direction_,     backslashes_,           synchronised_};
  return shared_.rested.put(std::move(rested));
}

std::size_t Rested::bytes() const noexcept {
  return database.capacity() + statements.bytes() + portals.bytes();
}

std::size_t PgConnection::memory() const noexcept {
  return sizeof *this + statements_.bytes() + portals_.bytes() + (steps_ ? steps_->bytes() : 0) +
         held_.capacity() * sizeof(Held);
}

namespace {

class Postgresql final : public Protocol {
 public:
  // A first message cannot be anything else. In the middle, whole messages up to the end of a turn.
  Verdict detect(Direction, ByteView bytes) const noexcept override {
    Startup first;
    const Error startup = parse_first(bytes, first);
    if (startup == Error::none) return Verdict::yes;
    Error turn = parse_turn(bytes, Sender::frontend);
    if (turn == Error::none) return Verdict::maybe;
    const Error answer = parse_turn(bytes, Sender::backend);
    if (answer == Error::none) return Verdict::maybe;
    const bool wait =
        startup == Error::incomplete || turn == Error::incomplete || answer == Error::incomplete;
    return wait ? Verdict::need_more : Verdict::no;
  }
  std::unique_ptr<ProtocolParser> open(Connection& connection, ExchangeSink& sink,
                                       std::array<bool, 2>, bool lost) noexcept override {
    return std::make_unique<PgConnection>(connection, sink, shared_, lost);
  }
  std::unique_ptr<ProtocolParser> resume(Connection& connection, ExchangeSink& sink,
                                         std::uint32_t rested) noexcept override {
    return std::make_unique<PgConnection>(connection, sink, shared_, shared_.rested.take(rested));
  }
  void forget(std::uint32_t rested) noexcept override { shared_.rested.take(rested); }
  std::size_t rested_bytes() const noexcept override { return shared_.rested.bytes(); }
  // Servers write buffers of 8 KiB, clients read up to 16: messages begin anywhere in them.
  std::uint32_t bytes_per_call() const noexcept override { return 16 * 1024; }

 private:
  Shared shared_;
};

}  // namespace

std::unique_ptr<Protocol> make_protocol() { return std::make_unique<Postgresql>(); }

}  // namespace olly::postgresql
