#include "protocol/http2/connection.h"

#include <algorithm>
#include <utility>

#include "protocol/common/ending.h"
#include "protocol/http2/detect.h"

namespace olly::http2 {
namespace {

bool is_prefix_of(ByteView bytes, std::string_view text) noexcept {
  return bytes.size() < text.size() && text.starts_with(as_text(bytes));
}

}  // namespace

Http2Connection::Http2Connection(Connection& connection, ExchangeSink& sink, Shared& shared,
                                 std::array<bool, 2> from_start, bool lost) noexcept
    : connection_(connection), sink_(sink), shared_(shared), uncertain_(lost) {
  for (std::size_t i = 0; i < 2; ++i) {
    if (!from_start[i]) lanes_[i].state = State::resync;
  }
  if (connection.role != Role::unknown) {
    know_direction(connection.role == Role::inbound ? Direction::recv : Direction::send);
  }
}

Http2Connection::Http2Connection(Connection& connection, ExchangeSink& sink, Shared& shared,
                                 const Upgrade& upgrade) noexcept
    : connection_(connection), sink_(sink), shared_(shared), last_id_(1), proven_(true) {
  know_direction(upgrade.request_direction);
  // Where the streams stand says nothing here: both begin anew.
  for (Lane& l : lanes_) l.state = State::frame;
  lane(request_direction_).state = State::first;
  // The request's HTTP2-Settings field may have said so.
  lane(opposite(request_direction_)).max_frame = kLargestFrame;
  if (!shared_.on.http2 && upgrade.exchange != nullptr) {
    // Nobody wants to know what became of it.
    upgrade.exchange->incomplete = kIgnored;
    sink_.finish(upgrade.exchange);
    return;
  }
  Http2Stream& s = streams_.emplace_back();
  s.id = 1;
  s.exchange = upgrade.exchange;
  s.upgraded = s.request_done = true;
  s.has_body = upgrade.request_body >= 0;
  s.request_body = std::max<std::int64_t>(upgrade.request_body, 0);
}

Http2Connection::Http2Connection(Connection& connection, ExchangeSink& sink, Shared& shared,
                                 Rested&& rested) noexcept
    : connection_(connection),
      sink_(sink),
      shared_(shared),
      last_id_(rested.last_id),
      proven_(true),
      uncertain_(rested.uncertain),
      hidden_(rested.hidden),
      invalid_(rested.invalid) {
  know_direction(rested.request_direction);
  for (std::size_t i = 0; i < 2; ++i) {
    lanes_[i].hpack = std::move(rested.hpack[i]);
    lanes_[i].state = State::frame;
    lanes_[i].max_frame = rested.max_frame[i];
    lanes_[i].whole = rested.whole[i];
  }
}

void Http2Connection::know_direction(Direction request) noexcept {
  request_direction_ = request;
  direction_known_ = true;
}

const Http2Stream* Http2Connection::find(std::uint32_t id) const noexcept {
  const auto at = std::lower_bound(streams_.begin(), streams_.end(), id,
                                   [](const Http2Stream& s, std::uint32_t i) { return s.id < i; });
  return at != streams_.end() && at->id == id ? &*at : nullptr;
}

Http2Stream* Http2Connection::find(std::uint32_t id) noexcept {
  return const_cast<Http2Stream*>(std::as_const(*this).find(id));
}

ParseResult Http2Connection::parse(Direction d, const Window& w) noexcept {
  ParseResult r = parse_lane(d, w);
  const bool read = r.status == ParseStatus::frame || r.status == ParseStatus::more;
  if (!proven_ && read && r.consumed > 0) r.status = ParseStatus::discard;
  return r;
}

ParseResult Http2Connection::parse_lane(Direction d, const Window& w) noexcept {
  switch (lane(d).state) {
    case State::first:
      return parse_first(d, w);
    case State::frame:
      return parse_frame(d, w);
    case State::data:
      return parse_data(d, w);
    case State::resync:
      return search(d, w);
    case State::opaque:
      break;
  }
  return {ParseStatus::opaque};
}

// The client's preface tells who is who; then both directions begin with SETTINGS (RFC 9113 3.4).
ParseResult Http2Connection::parse_first(Direction d, const Window& w) noexcept {
  Lane& l = lane(d);
  if (w.bytes.empty() || is_prefix_of(w.bytes, kPreface)) return {};
  if (as_text(w.bytes).starts_with(kPreface)) {
    know_direction(d);
    proven_ = true;
    l.state = State::frame;
    l.stream = 0;
    return {ParseStatus::frame, kPreface.size()};
  }
  if (w.position != 0) {
    l.whole = false;
    l.hpack.forget();
    uncertain_ = true;
  }
  l.state = State::frame;
  return parse_frame(d, w);
}

ParseResult Http2Connection::parse_frame(Direction d, const Window& w) noexcept {
  Lane& l = lane(d);
  if (w.bytes.size() < kFrameHeader) return {};
  const FrameHeader h = read_frame_header(w.bytes);
  const std::uint32_t limit = l.whole ? l.max_frame : kLargestFrame;
  const bool expected =
      l.block ? h.type == FrameType::continuation && h.stream == l.block->header.stream
              : h.type != FrameType::continuation || !l.whole;
  const bool valid = proven_ ? valid_frame(h, limit) : plausible_frame(w.bytes);
  if (!expected || !valid) return on_invalid(d, w);
  ParseResult r;
  switch (h.type) {
    case FrameType::data:
      r = on_data(d, h, w);
      break;
    case FrameType::headers:
    case FrameType::push_promise:
      r = on_headers(d, h, w);
      break;
    case FrameType::continuation:
      r = on_continuation(d, h, w);
      break;
    default:
      r = on_control(d, h, w);
      break;
  }
  if (r.status == ParseStatus::frame) invalid_ = 0;
  if (losses_ && lost_until_ == 0) {
    lost_until_ = w.last_mark().time + kLostWait;
    wake_by(lost_until_);
  }
  return r;
}

ParseResult Http2Connection::on_data(Direction d, const FrameHeader& h, const Window& w) noexcept {
  Lane& l = lane(d);
  std::size_t front = kFrameHeader;
  std::uint32_t padding = 0;
  if (h.has(kPadded)) {
    if (w.bytes.size() < ++front) return {};
    padding = w.bytes[kFrameHeader] + 1u;
    if (padding > h.length) return on_invalid(d, w);
    --padding;
  }
  l.state = State::data;
  l.stream = h.stream;
  l.end_stream = h.has(kEndStream);
  l.pad_left = padding;
  l.data_left = h.length - padding - (h.has(kPadded) ? 1u : 0u);
  if (Http2Stream* s = find(h.stream); s != nullptr && direction_known_) {
    std::int64_t& body = is_request(d) ? s->request_body : s->response_body;
    body += l.data_left;
    if (is_request(d)) s->has_body = true;
    mark_progress(*s, d, w.mark_at(w.position + front - 1));
  }
  return {ParseStatus::frame, front};
}

// What lies between the message prefixes of gRPC, and all of any other body, need not be read.
ParseResult Http2Connection::parse_data(Direction d, const Window& w) noexcept {
  Lane& l = lane(d);
  Http2Stream* s = find(l.stream);
  std::size_t used = 0;
  if (s != nullptr && s->grpc && direction_known_ && l.data_left > 0) {
    MessageCounter& m = s->messages[is_request(d) ? 0 : 1];
    if (m.known && m.left == 0) {
      ByteView data = w.bytes.first(std::min<std::size_t>(w.bytes.size(), l.data_left));
      if (data.empty()) return {};
      const std::size_t before = data.size();
      m.take(data);
      used = before - data.size();
      l.data_left -= static_cast<std::uint32_t>(used);
      mark_progress(*s, d, w.mark_at(w.position + used - 1));
    }
    if (m.known && (m.left > 0 || l.data_left > 0)) {
      const std::uint32_t n = std::min(m.left, l.data_left);
      m.left -= n;
      l.data_left -= n;
      if (l.data_left > 0 || n > 0) return {ParseStatus::more, used, n};
    }
  }
  const std::uint64_t rest = std::uint64_t{l.data_left} + l.pad_left;
  if (rest > 0) {
    l.data_left = l.pad_left = 0;
    return {ParseStatus::more, used, rest};
  }
  l.state = State::frame;
  if (s != nullptr && l.end_stream && direction_known_) side_done(*s, d);
  return used > 0 ? ParseResult{ParseStatus::more, used} : parse_frame(d, w);
}

ParseResult Http2Connection::on_headers(Direction d, const FrameHeader& h,
                                        const Window& w) noexcept {
  Lane& l = lane(d);
  if (h.length > kMaxBlock) {
    l.stream = 0;
    if (h.has(kEndHeaders)) {
      pass_block(d, h);
    } else {
      l.block = std::make_unique<Block>();
      l.block->header = h;
      l.block->too_long = true;
    }
    return {ParseStatus::frame, kFrameHeader, h.length};
  }
  const std::size_t size = kFrameHeader + h.length;
  if (w.bytes.size() < size || overtakes(d, h, w)) return {};
  ByteView payload = w.bytes.subspan(kFrameHeader, h.length);
  if (!proven_) {
    const bool telling = is_header_block(h, payload, false);
    if (!telling && !is_header_block(h, payload, true)) return on_invalid(d, w);
    proven_ = is_answer(d, h.stream, telling);
    telling_ = telling;
    if (telling && direction_known_ && !is_request(d)) answers_ = true;
  }
  if (!strip_padding(h, payload)) return on_invalid(d, w);
  const IoMark& first = w.mark_at(w.position);
  const IoMark& last = w.mark_at(w.position + size - 1);
  if (!h.has(kEndHeaders)) {
    l.block = std::make_unique<Block>();
    l.block->bytes.assign(payload.begin(), payload.end());
    l.block->position = w.position;
    l.block->first = first;
    l.block->header = h;
    return {ParseStatus::frame, size};
  }
  if (!on_block(d, h, payload, w.position, first, last)) return on_invalid(d, w);
  return {ParseStatus::frame, size};
}

ParseResult Http2Connection::on_continuation(Direction d, const FrameHeader& h,
                                             const Window& w) noexcept {
  Lane& l = lane(d);
  if (!l.block) return {ParseStatus::more, kFrameHeader, h.length};  // of a block not seen
  Block& b = *l.block;
  if (b.too_long || b.bytes.size() + h.length > kMaxBlock) {
    b.too_long = true;
    b.bytes = {};
    if (h.has(kEndHeaders)) {
      const FrameHeader first = b.header;
      l.block.reset();
      pass_block(d, first);
    }
    return {ParseStatus::frame, kFrameHeader, h.length};
  }
  const std::size_t size = kFrameHeader + h.length;
  if (w.bytes.size() < size) return {};
  const ByteView payload = w.bytes.subspan(kFrameHeader, h.length);
  b.bytes.insert(b.bytes.end(), payload.begin(), payload.end());
  if (!h.has(kEndHeaders)) return {ParseStatus::frame, size};
  const std::unique_ptr<Block> whole = std::move(l.block);
  const IoMark& last = w.mark_at(w.position + size - 1);
  if (!on_block(d, whole->header, whole->bytes, whole->position, whole->first, last)) {
    return on_invalid(d, w);
  }
  return {ParseStatus::frame, size};
}

ParseResult Http2Connection::on_control(Direction d, const FrameHeader& h,
                                        const Window& w) noexcept {
  // What is read of it: error code; settings; last stream and error code.
  std::size_t wanted = 0;
  if (h.type == FrameType::rst_stream) wanted = 4;
  if (h.type == FrameType::goaway) wanted = 8;
  if (h.type == FrameType::settings) wanted = std::min<std::size_t>(h.length, 1024);
  const std::size_t used = kFrameHeader + wanted;
  if (w.bytes.size() < used) return {};
  const ByteView payload = w.bytes.subspan(kFrameHeader, wanted);
  const IoMark& mark = w.mark_at(w.position + used - 1);
  lane(d).stream = 0;
  if (h.type == FrameType::rst_stream) {
    if (overtakes(d, h, w)) return {};
    lane(d).stream = h.stream;
    on_reset(d, h.stream, read_u32(payload.data()), mark);
  } else if (h.type == FrameType::goaway) {
    on_goaway(d, payload, mark);
  } else if (h.type == FrameType::settings && !h.has(kAck)) {
    const Settings s = read_settings(payload);
    if (!s.valid && wanted == h.length) return on_invalid(d, w);
    // The peer may make use of it before its ACK is seen here.
    Lane& peer = lane(opposite(d));
    peer.max_frame = std::max(peer.max_frame, s.max_frame);
  }
  // Extensions prove nothing.
  const bool known = h.type <= FrameType::continuation;
  const std::uint64_t skip = h.length - wanted;
  return {known ? ParseStatus::frame : ParseStatus::more, used, skip};
}

// While nothing is proven. `telling`: its fields are those of a response, as far as they are known.
bool Http2Connection::is_answer(Direction d, std::uint32_t id, bool telling) const noexcept {
  return direction_known_ && !is_request(d) &&
         std::any_of(asked_.begin(), asked_.end(),
                     [&](const Asked& a) { return a.stream == id && (a.telling || telling); });
}

// A response whose request has not been seen although nothing was lost: the thread that wrote the
// request has not stamped it yet. Waits for it.
bool Http2Connection::overtakes(Direction d, const FrameHeader& h, const Window& w) noexcept {
  if (!direction_known_ || is_request(d) || uncertain_ || h.stream <= last_id_ ||
      h.stream % 2 == 0 || h.type == FrameType::push_promise || !lane(request_direction_).whole) {
    return false;
  }
  const Nanos now = w.last_mark().time;
  if (overtaking_until_ == 0) overtaking_until_ = w.mark_at(w.position).time + kOvertakeTime;
  if (now >= overtaking_until_) {
    overtaking_until_ = 0;
    uncertain_ = true;
    return false;
  }
  wake_by(overtaking_until_);
  return true;
}

// A header block that is too long to be read: neither its fields are known, nor what they do to the
// table. `header` is that of its first frame.
void Http2Connection::pass_block(Direction d, const FrameHeader& header) noexcept {
  lane(d).hpack.forget();
  if (!direction_known_ || header.type != FrameType::headers) return;
  if (is_request(d) && header.stream > last_id_) {
    last_id_ = header.stream;
    hidden_ = true;
  }
  Http2Stream* s = find(header.stream);
  if (s == nullptr) return;
  if (!is_request(d)) s->response_begun = true;
  if (s->incomplete.empty()) s->incomplete = kUnknownFields;
  if (header.has(kEndStream)) side_done(*s, d);
}

// False: it is no header block.
bool Http2Connection::on_block(Direction d, const FrameHeader& h, ByteView block,
                               std::uint64_t position, const IoMark& first,
                               const IoMark& last) noexcept {
  Lane& l = lane(d);
  Head& head = shared_.head;
  head.clear();
  l.stream = h.stream;
  const HpackError error = l.hpack.decode(block, [&head](const Field& f) { head.add(f); });
  if (error != HpackError::none) {
    l.hpack.forget();
    return false;
  }
  // Pushes: only the table is of interest (nobody asked for what they carry).
  if (h.type == FrameType::push_promise || h.stream % 2 == 0) return true;
  if (head.is_response() && head.is_request()) return false;
  if (head.is_response() && is_request(d)) return false;
  if (head.is_request() && direction_known_ && !is_request(d)) return false;
  if (!direction_known_) {
    if (head.is_request()) {
      know_direction(d);
    } else if (head.is_response()) {
      know_direction(opposite(d));
    } else {
      return true;
    }
  }
  if (is_request(d)) {
    on_request(h.stream, h.has(kEndStream), position, first, last);
  } else {
    on_response(h.stream, h.has(kEndStream), first, last);
  }
  return true;
}

void Http2Connection::on_request(std::uint32_t id, bool end_stream, std::uint64_t position,
                                 const IoMark& first, const IoMark& last) noexcept {
  const Head& head = shared_.head;
  if (Http2Stream* s = find(id)) {  // trailers
    mark_progress(*s, request_direction_, last);
    if (end_stream) side_done(*s, request_direction_);
    return;
  }
  if (id <= last_id_ || !head.is_request()) return;
  last_id_ = id;
  proven_ |= answers_;
  if (!proven_) {
    hidden_ = true;
    std::rotate(asked_.begin(), asked_.begin() + 1, asked_.end());
    asked_.back() = {id, telling_};
    return;
  }
  const bool grpc = head.is_grpc();
  // What it is lies in the unseen: with one of the two switched off, it may be that one.
  const bool either = head.unknown() && !head.has(Name::content_type);
  if (((grpc || either) && !shared_.on.grpc) || (!grpc && !shared_.on.http2)) {
    hidden_ = true;
    return;
  }
  if (streams_.size() >= kMaxStreams) {
    hidden_ = true;
    finish(streams_.front(), kEvicted, {});
    remove(streams_.front());
  }
  const Side side = request_direction_ == Direction::recv ? Side::server : Side::client;
  if (connection_.role == Role::unknown) {
    connection_.role = side == Side::server ? Role::inbound : Role::outbound;
  }
  Http2Stream& s = streams_.emplace_back();
  s.id = id;
  s.grpc = grpc;
  s.timeout = grpc ? head.grpc_timeout() : 0;
  if (head.unknown()) s.incomplete = kUnknownFields;
  s.exchange = sink_.begin(connection_, side, position, first);
  if (Exchange* x = s.exchange) {
    x->request_first = first;
    x->request_last = last;
    x->multiplexed = true;
    if (grpc) {
      s.method = add_grpc_request(*x, connection_, head);
    } else {
      const HttpRequest request{head.get(Name::method), head.get(Name::path),
                                head.get(Name::scheme), head.get(Name::authority), "2"};
      add_http_request(*x, connection_, request, head.fields());
    }
    sink_.request(*x);
  }
  note_overlap(s);
  if (end_stream) side_done(s, request_direction_);
}

void Http2Connection::on_response(std::uint32_t id, bool end_stream, const IoMark& first,
                                  const IoMark& last) noexcept {
  const Head& head = shared_.head;
  Http2Stream* s = find(id);
  if (s == nullptr) return;
  const int status = head.status();
  if (status >= 100 && status < 200 && !end_stream) return;  // interim (RFC 9110 15.2)
  if (!s->response_begun) {
    s->response_begun = true;
    s->status = status;
    if (s->exchange != nullptr) s->exchange->response_first = first;
  }
  if (head.unknown() && s->incomplete.empty()) {
    const bool all_known = s->grpc ? head.grpc_status() >= 0 || !end_stream : s->status >= 0;
    if (!all_known) s->incomplete = kUnknownFields;
  }
  if (head.grpc_status() >= 0) s->grpc_status = head.grpc_status();
  const Direction d = opposite(request_direction_);
  mark_progress(*s, d, last);
  if (end_stream) side_done(*s, d);
}

void Http2Connection::on_reset(Direction d, std::uint32_t id, std::uint32_t code,
                               const IoMark& mark) noexcept {
  Http2Stream* s = find(id);
  if (s == nullptr || !direction_known_) return;
  if (s->response_done) {  // NO_ERROR: no need to go on sending (RFC 9113 8.1)
    finish(*s, {}, {});
    remove(*s);
    return;
  }
  s->reset_seen = true;
  s->reset = code;
  Exchange* x = s->exchange;
  if (x != nullptr && is_request(d)) x->request_last = mark;
  if (x != nullptr && !is_request(d)) {
    if (!x->response_first.seen()) x->response_first = mark;
    x->response_last = mark;
  }
  if (s->grpc && code == kCancel && is_request(d) && s->timeout != 0 && x != nullptr) {
    // The header is rounded, and the stamp of a send that was preempted is late.
    const Nanos slack = std::clamp<Nanos>(s->timeout / 10, 2 * kMillisecond, 50 * kMillisecond);
    if (mark.time + slack >= x->request_first.time + s->timeout) {
      s->grpc_status = kGrpcDeadlineExceeded;
    }
  }
  const std::string_view name = error_name(code);
  finish(*s, {}, name.empty() ? kUnnamedError : name);
  remove(*s);
}

// The server's: streams above the given one were not and will not be served (RFC 9113 6.8).
void Http2Connection::on_goaway(Direction d, ByteView payload, const IoMark& mark) noexcept {
  if (!direction_known_ || is_request(d)) return;
  const std::uint32_t last = read_u32(payload.data()) & 0x7fffffff;
  while (!streams_.empty() && streams_.back().id > last) {
    Http2Stream& s = streams_.back();
    if (!s.response_done) {
      s.reset_seen = true;
      s.reset = kRefusedStream;
      mark_progress(s, d, mark);
    }
    finish(s, {}, s.response_done ? std::string_view{} : error_name(kRefusedStream));
    remove(s);
  }
}

}  // namespace olly::http2
