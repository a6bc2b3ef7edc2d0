// How exchanges end: with the last byte of a response, with a loss, or with the connection.
#include <algorithm>

#include "protocol/common/ending.h"
#include "protocol/http1/connection.h"

namespace olly::http1 {

// The last byte of a message has passed.
void HttpConnection::message_done(Direction d) noexcept {
  Lane& l = lane(d);
  l.state = State::start;
  l.scanned = 0;
  if (queue_empty()) return;
  if (is_request(d)) {
    Slot& slot = queue_->back();
    slot.request_done = true;
    if (slot.upgrade || slot.connect) l.state = State::await;
    return;
  }
  Slot& slot = queue_->front();
  if (slot.trial && slot.exchange != nullptr) {
    slot.answered = true;
    wake_at_ = slot.exchange->response_last.time + kTrialTime;
    return;
  }
  finish(slot, {}, {});
  drop_front();
}

void HttpConnection::mark_progress(Direction d, const IoMark& mark) noexcept {
  if (queue_empty()) return;
  if (is_request(d)) {
    Slot& slot = queue_->back();
    if (slot.exchange != nullptr && !slot.request_done) slot.exchange->request_last = mark;
  } else if (queue_->front().exchange != nullptr && !queue_->front().answered) {
    queue_->front().exchange->response_last = mark;
  }
}

void HttpConnection::skipped(Direction d, std::uint64_t n, const IoMark& mark) noexcept {
  mark_progress(d, mark);
  if (lane(d).state != State::to_end || queue_empty()) return;
  std::int64_t& body = queue_->front().response_body;
  const auto room = static_cast<std::uint64_t>(INT64_MAX - body);
  body += static_cast<std::int64_t>(std::min(n, room));
}

void HttpConnection::gap(Direction d, std::uint64_t, std::uint64_t) noexcept {
  if (!direction_known_) return;
  Lane& l = lane(d);
  l.scanned = 0;
  if (l.state == State::opaque) return;
  l.lost_chunked = l.state == State::chunk_line || l.state == State::chunk_data || l.lost_chunked;
  if (is_request(d))
    request_loss();
  else
    response_loss();
  l.state = State::resync;
}

// The message under way is not whole, and requests may have been in what was lost.
void HttpConnection::request_loss() noexcept {
  uncertain_ = true;
  const State state = request_lane().state;
  const bool inside = state == State::chunk_line || state == State::chunk_data ||
                      state == State::trailers || state == State::body;
  if (inside && !queue_empty() && !queue_->back().request_done) {
    queue_->back().incomplete = kLostBytes;
    queue_->back().request_body = -1;
  }
}

// The response under way, or the next, is not whole; those behind it cannot be told apart.
void HttpConnection::response_loss() noexcept {
  uncertain_ = true;
  if (queue_empty()) return;
  if (queue_->front().answered) settle_trial(false);
  while (queue_ && queue_->size() > 1) {
    refuse(queue_->back());
    queue_->pop_back();
  }
  if (queue_empty()) return;
  Slot& slot = queue_->front();
  slot.broken = true;
  slot.incomplete = kLostBytes;
  slot.response_body = -1;
}

// An answered request on trial: its response is believed, or was another's.
void HttpConnection::settle_trial(bool believed) noexcept {
  if (queue_empty() || !queue_->front().answered) return;
  wake_at_ = 0;
  if (believed) {
    uncertain_ = false;
    finish(queue_->front(), {}, {});
  } else {
    refuse(queue_->front());
  }
  drop_front();
}

// The response that lost bytes is over: something new has begun.
void HttpConnection::end_broken() noexcept {
  if (queue_empty() || !queue_->front().broken) return;
  finish(queue_->front(), kLostBytes, {});
  drop_front();
}

void HttpConnection::finish(Slot& slot, std::string_view incomplete,
                            std::string_view error) noexcept {
  Exchange* x = slot.exchange;
  if (x == nullptr) return;
  slot.exchange = nullptr;
  if (slot.trial && !slot.answered && slot.status >= 0) {
    // A response that may be another's and did not end as its framing said.
    slot.status = -1;
    slot.incomplete = kLostBytes;
    x->response_first = x->response_last = {};
  }
  HttpOutcome outcome;
  outcome.status = slot.status;
  if (slot.request_done && slot.request_has_body) outcome.request_body = slot.request_body;
  const bool whole = incomplete.empty() && slot.response_body >= 0 && !slot.broken;
  if (slot.status >= 0 && whole) outcome.response_body = slot.response_body;
  outcome.error_type = error;
  add_http_outcome(*x, outcome);
  x->incomplete = slot.incomplete.empty() ? incomplete : slot.incomplete;
  sink_.finish(x);
}

// A request whose response cannot be told from others'.
void HttpConnection::refuse(Slot& slot) noexcept {
  if (slot.exchange != nullptr) slot.exchange->response_first = slot.exchange->response_last = {};
  slot.status = -1;
  slot.incomplete = kLostBytes;
  finish(slot, kLostBytes, {});
}

void HttpConnection::finish_all(std::string_view incomplete, std::string_view error) noexcept {
  while (!queue_empty()) {
    Slot& slot = queue_->front();
    if (slot.answered) {
      settle_trial(true);
      continue;
    }
    finish(slot, incomplete, error);
    drop_front();
  }
}

void HttpConnection::eof(Direction d, const IoMark&) noexcept {
  // The peer of a server may still read: its responses may follow. A client gets no more.
  if (!direction_known_ || is_request(d)) return;
  if (response_lane().state == State::to_end) {
    response_lane().state = State::body;
    message_done(d);
  }
  finish_all(kClosed, kErrorClosed);
}

void HttpConnection::timeout(Nanos) noexcept {
  if (queue_empty()) return;
  for (std::size_t i = 0; i < queue_->size(); ++i) {
    Slot& slot = queue_->at(i);
    // A body may be on its way unseen: only requests that wait for an answer have timed out.
    if (slot.status < 0 && slot.request_done && !slot.broken) finish(slot, kTimeout, kErrorTimeout);
  }
}

void HttpConnection::tick(Nanos now) noexcept {
  if (wake_at_ == 0 || now < wake_at_) return;
  if (!queue_empty() && queue_->front().answered) {
    settle_trial(true);
    return;
  }
  // A response that overtook nothing: the next parse() lets it pass.
  wake_at_ = 0;
  joined_ = true;
}

void HttpConnection::end(EndReason reason, Nanos, std::uint32_t error) noexcept {
  switch (reason) {
    case EndReason::closed:
      if (!queue_empty() && direction_known_ && response_lane().state == State::to_end) {
        message_done(opposite(request_direction_));
      }
      if (!queue_empty() && queue_->front().broken) end_broken();
      if (!queue_empty() && queue_->front().status >= 0 && error == 0 &&
          !queue_->front().answered) {
        finish(queue_->front(), kClosed, {});
        drop_front();
      }
      finish_all(kClosed, socket_error(error));
      return;
    default:
      // An upgrade that nobody here follows: the handshake is all there is.
      if (!queue_empty() && queue_->front().status == 101) {
        finish(queue_->front(), {}, {});
        drop_front();
      }
      finish_all(incomplete_of(reason), {});
      return;
  }
}

Exchange* HttpConnection::current(Direction d) const noexcept {
  if (queue_empty() || !direction_known_) return nullptr;
  return is_request(d) ? queue_->back().exchange : queue_->front().exchange;
}

// Between two messages: a bit for each thing that is known.
std::optional<std::uint32_t> HttpConnection::rest() noexcept {
  if (!queue_empty() || wake_at_ != 0) return std::nullopt;
  std::uint32_t rested = (request_direction_ == Direction::send ? 1u : 0u) |
                         (direction_known_ ? 2u : 0u) | (uncertain_ ? 4u : 0u) |
                         (joined_ ? 8u : 0u) | std::uint32_t{invalid_} << 8;
  for (std::size_t i = 0; i < 2; ++i) {
    const Lane& l = lanes_[i];
    if (l.state == State::resync && !l.lost_chunked)
      rested |= 16u << i;
    else if (l.state != State::start)
      return std::nullopt;
  }
  return rested;
}

void HttpConnection::resume(std::uint32_t rested) noexcept {
  request_direction_ = (rested & 1) != 0 ? Direction::send : Direction::recv;
  direction_known_ = (rested & 2) != 0;
  uncertain_ = (rested & 4) != 0;
  joined_ = (rested & 8) != 0;
  invalid_ = static_cast<std::uint8_t>(rested >> 8);
  for (std::size_t i = 0; i < 2; ++i) {
    if ((rested & 16u << i) != 0) lanes_[i].state = State::resync;
  }
}

}  // namespace olly::http1
