// How streams come to their end.
#include <algorithm>

#include "protocol/common/ending.h"
#include "protocol/http2/connection.h"
#include "protocol/http2/detect.h"
#include "traces/semconv.h"

namespace olly::http2 {

// END_STREAM. A response may be complete before its request is (RFC 9113 8.1): a late stamp, or a
// server that does not care for the rest.
void Http2Connection::side_done(Http2Stream& s, Direction d) noexcept {
  if (is_request(d)) {
    s.request_done = true;
  } else {
    s.response_done = true;
  }
  if (!s.response_done) return;
  if (s.request_done || !lane(request_direction_).whole || s.exchange == nullptr) {
    finish(s, {}, {});
    remove(s);
    return;
  }
  s.finish_at = s.exchange->response_last.time + kOvertakeTime;
  wake_by(s.finish_at);
}

void Http2Connection::wake_by(Nanos time) noexcept {
  wake_at_ = wake_at_ == 0 ? time : std::min(wake_at_, time);
}

void Http2Connection::mark_progress(Http2Stream& s, Direction d, const IoMark& mark) noexcept {
  if (s.exchange == nullptr || !mark.seen()) return;
  if (is_request(d)) {
    if (!s.upgraded) s.exchange->request_last = mark;
  } else {
    if (!s.exchange->response_first.seen()) s.exchange->response_first = mark;
    s.exchange->response_last = mark;
  }
}

// Who reads and writes a connection says whose calls are whose only while one stream is open, and
// that is certain only where every stream is seen.
void Http2Connection::note_overlap(Http2Stream& added) noexcept {
  const bool unseen = uncertain_ || hidden_;
  if (streams_.size() < 2 && !unseen) {
    overlapping_ = false;
    return;
  }
  if (!overlapping_ && !unseen) {
    overlapping_ = true;
    for (Http2Stream& s : streams_) {
      if (s.overlapped) continue;
      s.overlapped = true;
      if (s.exchange != nullptr) sink_.overlapped(*s.exchange);
    }
    return;
  }
  added.overlapped = true;
  if (added.exchange != nullptr) sink_.overlapped(*added.exchange);
}

void Http2Connection::skipped(Direction d, std::uint64_t, const IoMark& mark) noexcept {
  if (lane(d).state != State::data || !direction_known_) return;
  if (Http2Stream* s = find(lane(d).stream)) mark_progress(*s, d, mark);
}

void Http2Connection::gap(Direction d, std::uint64_t, std::uint64_t length) noexcept {
  Lane& l = lane(d);
  const std::uint64_t left = std::uint64_t{l.data_left} + l.pad_left;
  if (l.state == State::data && length > 0 && length <= left) {
    // Inside a DATA frame: where it ends is known, what messages it holds is not.
    const auto of_data = static_cast<std::uint32_t>(std::min<std::uint64_t>(length, l.data_left));
    l.data_left -= of_data;
    l.pad_left -= static_cast<std::uint32_t>(length - of_data);
    if (Http2Stream* s = find(l.stream); s != nullptr && direction_known_) {
      s->messages[is_request(d) ? 0 : 1].known = false;
    }
    return;
  }
  lose(d);
}

// Frames were lost: what they did to the table and to which streams is not known.
void Http2Connection::lose(Direction d) noexcept {
  Lane& l = lane(d);
  if (l.state == State::opaque) return;
  l.state = State::resync;
  l.whole = false;
  l.stream = 0;
  l.data_left = l.pad_left = 0;
  l.block.reset();
  l.hpack.forget();
  uncertain_ = true;
  for (std::size_t i = streams_.size(); i > 0; --i) {
    Http2Stream& s = streams_[i - 1];
    if (is_request(d) && s.request_done) continue;
    s.incomplete = kLostBytes;
    losses_ = true;
    s.messages[is_request(d) ? 0 : 1].known = false;
    if (s.response_done) {
      finish(s, kLostBytes, {});
      remove(s);
    }
  }
}

ParseResult Http2Connection::on_invalid(Direction d, const Window& w) noexcept {
  if (++invalid_ >= kMaxInvalid) return {ParseStatus::opaque};
  lose(d);
  return {ParseStatus::invalid, std::min<std::size_t>(1, w.bytes.size())};
}

ParseResult Http2Connection::search(Direction d, const Window& w) noexcept {
  Lane& l = lane(d);
  if (l.whole && l.state == State::resync) {  // it began in the middle
    l.whole = false;
    l.hpack.forget();
    uncertain_ = true;
  }
  const std::size_t size = w.bytes.size();
  if (size < kFrameHeader) return {};
  std::size_t waits = size - kFrameHeader + 1;  // the first place that more bytes may confirm
  bool could = false;
  for (std::size_t at = 0; at + kFrameHeader <= size; ++at) {
    const ByteView rest = w.bytes.subspan(at);
    const bool open = find(read_frame_header(rest).stream) != nullptr;
    const Verdict v = frames_begin_at(rest, w.call_begins_at(w.position + at), open);
    if (v == Verdict::need_more && !could) waits = at, could = true;
    if (v != Verdict::yes) continue;
    if (at > 0) return {ParseStatus::discard, at};  // the next call begins there
    l.state = State::frame;
    return parse_frame(d, w);
  }
  return waits > 0 ? ParseResult{ParseStatus::discard, waits} : ParseResult{};
}

void Http2Connection::eof(Direction d, const IoMark&) noexcept {
  if (!direction_known_ || is_request(d)) return;
  finish_all(kClosed, kErrorClosed);
}

// A stream may be silent for as long as it likes once it has been answered.
void Http2Connection::timeout(Nanos) noexcept {
  for (std::size_t i = streams_.size(); i > 0; --i) {
    Http2Stream& s = streams_[i - 1];
    if (s.incomplete == kLostBytes) {
      finish(s, kLostBytes, {});
      remove(s);
      continue;
    }
    if (s.response_begun || !s.request_done) continue;
    finish(s, kTimeout, kErrorTimeout);
    remove(s);
  }
}

void Http2Connection::tick(Nanos now) noexcept {
  if (wake_at_ == 0 || now < wake_at_) return;
  wake_at_ = 0;
  if (overtaking_until_ != 0) {
    if (now >= overtaking_until_) {
      overtaking_until_ = 0;
      uncertain_ = true;
    } else {
      wake_at_ = overtaking_until_;
    }
  }
  if (lost_until_ != 0) end_lost(now);
  for (std::size_t i = streams_.size(); i > 0; --i) {
    Http2Stream& s = streams_[i - 1];
    if (s.finish_at == 0) continue;
    if (s.finish_at <= now) {
      finish(s, {}, {});
      remove(s);
    } else {
      wake_by(s.finish_at);
    }
  }
}

// A stream whose end was lost would stay for as long as its connection does.
void Http2Connection::end_lost(Nanos now) noexcept {
  if (now < lost_until_) {
    wake_by(lost_until_);
    return;
  }
  lost_until_ = 0;
  losses_ = false;
  for (std::size_t i = streams_.size(); i > 0; --i) {
    Http2Stream& s = streams_[i - 1];
    if (s.incomplete != kLostBytes) continue;
    const Nanos latest = s.exchange == nullptr ? 0
                                               : std::max(s.exchange->request_last.time,
                                                          s.exchange->response_last.time);
    if (latest + kLostWait <= now) {
      finish(s, kLostBytes, {});
      remove(s);
      continue;
    }
    losses_ = true;
    if (lost_until_ == 0 || latest + kLostWait < lost_until_) lost_until_ = latest + kLostWait;
  }
  if (lost_until_ != 0) wake_by(lost_until_);
}

void Http2Connection::end(EndReason reason, Nanos, std::uint32_t error) noexcept {
  finish_all(incomplete_of(reason),
             reason == EndReason::closed ? socket_error(error) : std::string_view{});
}

Exchange* Http2Connection::current(Direction d) const noexcept {
  const Lane& l = lane(d);
  if (l.stream == 0 || !direction_known_) return nullptr;
  const Http2Stream* s = find(l.stream);
  return s != nullptr ? s->exchange : nullptr;
}

// Between two frames, with no stream open.
std::optional<std::uint32_t> Http2Connection::rest() noexcept {
  if (!proven_ || !direction_known_ || !streams_.empty() || wake_at_ != 0 || losses_)
    return std::nullopt;
  for (const Lane& l : lanes_) {
    if (l.state != State::frame || l.block) return std::nullopt;
  }
  for (Lane& l : lanes_) l.hpack.shrink();
  return shared_.rested.put({{std::move(lanes_[0].hpack), std::move(lanes_[1].hpack)},
                             {lanes_[0].max_frame, lanes_[1].max_frame},
                             {lanes_[0].whole, lanes_[1].whole},
                             last_id_,
                             request_direction_,
                             uncertain_,
                             hidden_,
                             invalid_});
}

std::size_t Http2Connection::memory() const noexcept {
  std::size_t bytes = sizeof *this + streams_.capacity() * sizeof(Http2Stream);
  for (const Lane& l : lanes_) {
    bytes += l.hpack.table().memory();
    if (l.block) bytes += sizeof(Block) + l.block->bytes.capacity();
  }
  return bytes;
}

// What the caller was told, or would be by the specification's mapping. -1: not known.
int Http2Connection::grpc_status_of(const Http2Stream& s) const noexcept {
  if (s.grpc_status >= 0) return s.grpc_status;
  if (s.reset_seen) return grpc_status_of_reset(s.reset);
  if (!s.response_done || !s.incomplete.empty()) return -1;
  return grpc_status_of_http(s.status);
}

void Http2Connection::finish(Http2Stream& s, std::string_view incomplete,
                             std::string_view error) noexcept {
  Exchange* x = s.exchange;
  if (x == nullptr) return;
  s.exchange = nullptr;
  if (s.response_done && s.incomplete.empty()) incomplete = error = {};
  if (!s.incomplete.empty()) incomplete = s.incomplete;
  if (s.grpc) {
    GrpcOutcome o;
    o.status = grpc_status_of(s);
    o.method = s.method;
    o.timeout = s.timeout;
    o.request = &s.messages[0];
    o.response = &s.messages[1];
    o.error_type = error;
    add_grpc_outcome(*x, o);
  } else {
    HttpOutcome o;
    o.status = s.status;
    const bool lost = incomplete == kLostBytes;
    if (s.request_done && s.has_body && !lost) o.request_body = s.request_body;
    if (s.response_done && !lost) o.response_body = s.response_body;
    o.error_type = error;
    add_http_outcome(*x, o);
    if (s.upgraded && s.response_begun) x->attributes.set(semconv::kNetworkProtocolVersion, "2");
  }
  x->incomplete = incomplete;
  sink_.finish(x);
}

void Http2Connection::remove(Http2Stream& s) noexcept {
  streams_.erase(streams_.begin() + (&s - streams_.data()));
}

void Http2Connection::finish_all(std::string_view incomplete, std::string_view error) noexcept {
  for (Http2Stream& s : streams_) finish(s, incomplete, error);
  streams_.clear();
}

}  // namespace olly::http2
