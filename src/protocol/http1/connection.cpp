#include "protocol/http1/connection.h"

#include <algorithm>

namespace olly::http1 {
namespace {

constexpr std::size_t kNotFound = static_cast<std::size_t>(-1);

bool is_prefix_of(ByteView bytes, std::string_view text) noexcept {
  return bytes.size() < text.size() && text.starts_with(as_text(bytes));
}

}  // namespace

HttpConnection::HttpConnection(Connection& connection, ExchangeSink& sink, Queues& pool,
                               std::array<bool, 2> from_start, bool lost) noexcept
    : connection_(connection), sink_(sink), pool_(pool), uncertain_(lost) {
  for (std::size_t i = 0; i < 2; ++i) {
    if (from_start[i]) continue;
    lanes_[i].state = State::resync;
    joined_ = true;
  }
}

HttpConnection::~HttpConnection() {
  if (queue_) pool_.give(std::move(queue_));
}

void HttpConnection::drop_front() noexcept {
  queue_->pop();
  if (queue_->empty()) pool_.give(std::move(queue_));
}

ParseResult HttpConnection::parse(Direction d, const Window& w) noexcept {
  if (!direction_known_) {
    if (is_prefix_of(w.bytes, "HTTP/")) return {};
    request_direction_ = as_text(w.bytes).starts_with("HTTP/") ? opposite(d) : d;
    direction_known_ = true;
  }
  Lane& l = lane(d);
  if (l.state == State::body) message_done(d);
  switch (l.state) {
    case State::start:
      return parse_start(d, w);
    case State::chunk_line:
    case State::chunk_data:
      return parse_chunk(d, w);
    case State::trailers:
      return parse_trailer(d, w);
    case State::await:
    case State::body:
      return {};
    case State::to_end:
      return {ParseStatus::more, 0, reassembly::kToTheEnd};
    case State::resync:
      return search_start(d, w);
    case State::opaque:
      break;
  }
  if (queue_empty()) return {ParseStatus::opaque};
  if (w.bytes.empty()) return {};
  return {ParseStatus::discard, w.bytes.size()};
}

ParseResult HttpConnection::parse_start(Direction d, const Window& w) noexcept {
  if (w.bytes.empty()) return {};
  std::size_t blank = 0;
  if (is_request(d)) {
    while (blank < w.bytes.size() && (w.bytes[blank] == '\r' || w.bytes[blank] == '\n')) ++blank;
  }
  if (blank > 0) return {ParseStatus::more, blank};
  return parse_head(d, w);
}

ParseResult HttpConnection::parse_head(Direction d, const Window& w) noexcept {
  Lane& l = lane(d);
  if (l.scanned > 0 && find_head_end(w.bytes, l.scanned) == 0) {
    l.scanned = static_cast<std::uint32_t>(w.bytes.size());
    if (w.bytes.size() < kMaxHead) return {};
    return on_invalid(d, w);
  }
  HeadError error;
  ParseResult result;
  if (is_request(d)) {
    RequestHead head;
    error = parse_request_head(w.bytes, head);
    if (error == HeadError::none) result = on_request(head, w);
  } else {
    ResponseHead head;
    error = parse_response_head(w.bytes, head);
    if (error == HeadError::none) result = on_response(head, w);
  }
  if (error == HeadError::none) {
    if (result.consumed > 0) l.scanned = 0, invalid_ = 0;
    return result;
  }
  if (error == HeadError::incomplete) {
    l.scanned = static_cast<std::uint32_t>(w.bytes.size());
    return {};
  }
  return on_invalid(d, w);
}

// Not a message. Whatever it was, requests or responses may have been in it.
ParseResult HttpConnection::on_invalid(Direction d, const Window& w) noexcept {
  Lane& l = lane(d);
  l.scanned = 0;
  if (l.state != State::resync) {
    if (is_request(d))
      request_loss();
    else
      response_loss();
    if (++invalid_ >= kMaxInvalid) return {ParseStatus::opaque};
  }
  l.state = State::resync;
  return {ParseStatus::invalid, std::min<std::size_t>(1, w.bytes.size())};
}

// A plausible start is a whole, valid start line of this direction at the beginning of a call or of
// a line. In the request direction only known methods count.
ParseResult HttpConnection::search_start(Direction d, const Window& w) noexcept {
  Lane& l = lane(d);
  if (w.bytes.empty()) return {};
  if (l.scanned > 1) return parse_head(d, w);  // a candidate whose head was not whole
  const std::string_view text = as_text(w.bytes);
  std::size_t at = l.scanned > 0 || w.call_begins_at(w.position) ? 0 : kNotFound;
  for (std::size_t line = 0; at == kNotFound || at > 0 || line == 0;) {
    if (at != kNotFound) {
      const ByteView rest = w.bytes.subspan(at);
      Start start;
      if (is_request(d)) {
        start = looks_like_request(rest);
        const std::size_t space = as_text(rest).find(' ');
        if (space != std::string_view::npos && !is_known_method(as_text(rest).substr(0, space))) {
          start = Start::no;
        }
        if (rest[0] == '\r' || rest[0] == '\n') start = Start::no;
        if (start == Start::need_more && space == std::string_view::npos && rest.size() > 7) {
          start = Start::no;
        }
      } else {
        start = looks_like_response(rest);
      }
      if (start != Start::no) {
        if (at > 0) {
          l.scanned = 1;  // the next call begins at the candidate
          return {ParseStatus::discard, at};
        }
        if (start == Start::need_more) {
          l.scanned = 1;
          return {};
        }
        l.scanned = 0;
        return parse_head(d, w);
      }
    }
    const std::size_t newline = text.find('\n', line);
    if (newline == std::string_view::npos || newline + 1 >= text.size()) break;
    line = at = newline + 1;
  }
  l.scanned = !text.empty() && text.back() == '\n' ? 1 : 0;
  if (l.lost_chunked && !is_request(d)) {
    mark_progress(d, w.last_mark());
    if (text.ends_with("\r\n0\r\n\r\n")) {
      l.lost_chunked = false;
      end_broken();
    }
  }
  return {ParseStatus::discard, w.bytes.size()};
}

ParseResult HttpConnection::on_request(const RequestHead& head, const Window& w) noexcept {
  const Fields& f = head.fields;
  Lane& l = request_lane();
  settle_trial(true);
  end_broken();
  if (queue_ && queue_->size() >= kMaxPipeline) return {ParseStatus::opaque};
  // Pipelined behind a request when requests may have been lost: its response cannot be told.
  const bool pairable = !(uncertain_ && !queue_empty());

  const Side side = request_direction_ == Direction::recv ? Side::server : Side::client;
  if (connection_.role == Role::unknown) {
    connection_.role = side == Side::server ? Role::inbound : Role::outbound;
  }
  if (!queue_) queue_ = pool_.take();
  Slot& slot = queue_->push();
  slot.exchange = sink_.begin(connection_, side, w.position, w.mark_at(w.position));
  slot.head_method = head.method == "HEAD";
  slot.connect = head.method == "CONNECT";
  slot.upgrade = f.has_upgrade && f.connection_upgrade;
  slot.trial = uncertain_;
  const bool ambiguous = f.bad_length || f.bad_transfer_encoding ||
                         (f.has_transfer_encoding && (f.has_length || !f.chunked)) ||
                         (f.has_transfer_encoding && head.minor_version == 0);
  if (ambiguous) slot.incomplete = kAmbiguousFraming;
  if (slot.exchange != nullptr) {
    slot.exchange->request_first = w.mark_at(w.position);
    slot.exchange->request_last = w.mark_at(w.position + head.size - 1);
    const char version[3] = {'1', '.', static_cast<char>('0' + head.minor_version)};
    const HttpRequest request{head.method, head.target, {}, {}, {version, sizeof version}};
    add_http_request(*slot.exchange, connection_, request, f);
    sink_.request(*slot.exchange);
  }
  ParseResult result{ParseStatus::frame, head.size};
  slot.request_has_body = f.has_length || f.has_transfer_encoding;
  l.lost_chunked = false;
  if (ambiguous) {
    // Programs disagree where this message ends; what follows is left alone.
    l.state = State::opaque;
    slot.request_body = -1;
  } else if (f.chunked) {
    l.state = State::chunk_line;
  } else if (f.has_length && f.content_length > 0) {
    l.state = State::body;
    slot.request_body = static_cast<std::int64_t>(f.content_length);
    result.skip = f.content_length;
  } else {
    l.state = State::body;
    message_done(request_direction_);
  }
  if (!pairable) {
    refuse(slot);
    queue_->pop_back();
    if (queue_->empty()) pool_.give(std::move(queue_));
  }
  return result;
}

ParseResult HttpConnection::on_response(const ResponseHead& head, const Window& w) noexcept {
  if (!queue_empty() && queue_->front().answered) settle_trial(false);
  end_broken();
  if (queue_empty()) return on_unsolicited(head, w);
  wake_at_ = 0;
  Slot& slot = queue_->front();
  Exchange* x = slot.exchange;
  if (x != nullptr) {
    if (head.status >= 200 || head.status == 101) {
      x->response_first = w.mark_at(w.position);
      x->response_last = w.mark_at(w.position + head.size - 1);
    }
  }
  response_lane().lost_chunked = false;
  if (head.status < 200 && head.status != 101) {
    response_lane().state = State::start;
    return {ParseStatus::frame, head.size};
  }
  slot.status = head.status;
  if (head.status == 101 || (slot.connect && head.status < 300)) return on_tunnel(slot, head);
  if (request_lane().state == State::await) request_lane().state = State::start;
  return frame_response(slot, head);
}

// What follows is not HTTP/1. Another protocol may know it, and finish the request that asked for
// it.
ParseResult HttpConnection::on_tunnel(Slot& slot, const ResponseHead& head) noexcept {
  const bool agreed = head.status == 101 && slot.upgrade && !slot.trial && queue_->size() == 1 &&
                      request_lane().state == State::await && !head.fields.upgrade.empty();
  request_lane().state = response_lane().state = State::opaque;
  if (agreed) return {ParseStatus::upgrade, head.size, 0, head.fields.upgrade};
  finish_all({}, {});
  return {ParseStatus::opaque, head.size};
}

Upgrade HttpConnection::hand_over() noexcept {
  Upgrade out;
  out.request_direction = request_direction_;
  if (queue_empty()) return out;
  Slot& slot = queue_->front();
  out.exchange = slot.exchange;
  if (slot.request_has_body) out.request_body = slot.request_body;
  if (out.exchange != nullptr) {
    // The 101 was not its response.
    out.exchange->response_first = out.exchange->response_last = {};
  }
  drop_front();
  return out;
}

// RFC 9112 6.3: how long the body is.
ParseResult HttpConnection::frame_response(Slot& slot, const ResponseHead& head) noexcept {
  const Fields& f = head.fields;
  Lane& l = response_lane();
  ParseResult result{ParseStatus::frame, head.size};
  const bool no_body = slot.head_method || head.status == 204 || head.status == 304;
  if (no_body) {
    l.state = State::body;
    message_done(opposite(request_direction_));
    return result;
  }
  const bool ambiguous =
      f.bad_length || f.bad_transfer_encoding || (f.has_transfer_encoding && f.has_length);
  if (ambiguous) {
    slot.incomplete = kAmbiguousFraming;
    slot.response_body = -1;
    finish(slot, kAmbiguousFraming, {});
    drop_front();
    finish_all(kAmbiguousFraming, {});
    return {ParseStatus::opaque, head.size};
  }
  if (f.chunked) {
    l.state = State::chunk_line;
  } else if (f.has_length && !f.has_transfer_encoding) {
    slot.response_body = static_cast<std::int64_t>(f.content_length);
    result.skip = f.content_length;
    l.state = State::body;
    if (f.content_length == 0) message_done(opposite(request_direction_));
  } else {
    l.state = State::to_end;
    result.skip = reassembly::kToTheEnd;
  }
  return result;
}

// A response that answers nothing known: its request was lost, or came before the agent. Whether it
// has a body cannot be known (it may answer HEAD), so the next start is searched for.
ParseResult HttpConnection::on_unsolicited(const ResponseHead& head, const Window& w) noexcept {
  Lane& l = response_lane();
  const IoMark& mark = w.mark_at(w.position);
  const bool may_have_overtaken = !joined_ && !uncertain_ && head.status >= 200;
  if (may_have_overtaken && wake_at_ == 0) {
    wake_at_ = mark.time + kOvertakeTime;
    return {};
  }
  if (may_have_overtaken && w.last_mark().time < wake_at_) return {};
  wake_at_ = 0;
  joined_ = true;
  l.state = State::resync;
  if (head.status == 101) return {ParseStatus::opaque, head.size};
  return {ParseStatus::frame, head.size};
}

ParseResult HttpConnection::parse_chunk(Direction d, const Window& w) noexcept {
  Lane& l = lane(d);
  if (w.bytes.empty()) return {};
  std::size_t used = 0;
  if (l.state == State::chunk_data) {
    if (w.bytes[0] != '\r' || (w.bytes.size() > 1 && w.bytes[1] != '\n')) return on_invalid(d, w);
    if (w.bytes.size() < 2) return {};
    l.state = State::chunk_line;
    used = 2;
    mark_progress(d, w.mark_at(w.position + 1));
    if (w.bytes.size() == 2) return {ParseStatus::more, 2};
  }
  ChunkLine line;
  switch (parse_chunk_line(w.bytes.subspan(used), line)) {
    case ChunkError::incomplete:
      return used > 0 ? ParseResult{ParseStatus::more, used} : ParseResult{};
    case ChunkError::invalid:
      if (used > 0) return {ParseStatus::more, used};  // found again, with nothing before it
      return on_invalid(d, w);
    case ChunkError::none:
      break;
  }
  used += line.consumed;
  mark_progress(d, w.mark_at(w.position + used - 1));
  if (line.size == 0) {
    l.state = State::trailers;
    l.scanned = 0;
    return {ParseStatus::more, used};
  }
  l.state = State::chunk_data;
  if (!queue_empty()) {
    std::int64_t& body =
        is_request(d) ? queue_->back().request_body : queue_->front().response_body;
    constexpr std::int64_t kMax = INT64_MAX;
    const auto size = static_cast<std::int64_t>(line.size);
    body = body > kMax - size ? kMax : body + size;
  }
  return {ParseStatus::more, used, line.size};
}

ParseResult HttpConnection::parse_trailer(Direction d, const Window& w) noexcept {
  Lane& l = lane(d);
  if (w.bytes.empty()) return {};
  std::size_t size = 0;
  const HeadError error = parse_trailers(w.bytes, size);
  if (error == HeadError::incomplete) return {};
  if (error != HeadError::none) return on_invalid(d, w);
  mark_progress(d, w.mark_at(w.position + size - 1));
  l.state = State::body;
  message_done(d);
  return {ParseStatus::frame, size};
}

}  // namespace olly::http1
