#include "protocol/mongodb/connection.h"

#include <algorithm>
#include <memory>

#include "protocol/common/database.h"
#include "protocol/common/ending.h"
#include "protocol/mongodb/protocol.h"

namespace olly::mongodb {

MongoConnection::MongoConnection(Connection& connection, ExchangeSink& sink,
                                 Decompressor& decompressor, std::array<bool, 2> from_start,
                                 bool lost) noexcept
    : connection_(connection), sink_(sink), decompressor_(decompressor), partial_(lost) {
  for (std::size_t i = 0; i < 2; ++i) {
    if (from_start[i]) continue;
    lanes_[i].state = State::resync;
    partial_ = true;
  }
}

// False: more bytes are needed to tell.
bool MongoConnection::settle_direction(Direction d, const Window& w) noexcept {
  if (connection_.role != Role::unknown) {
    request_direction_ = connection_.role == Role::outbound ? Direction::send : Direction::recv;
  } else {
    Header h;
    if (look_at_header(w.bytes, h) == Start::need_more) return false;
    const bool asks = h.response_to == 0 && h.opcode != Opcode::reply;
    request_direction_ = asks ? d : opposite(d);
  }
  direction_known_ = true;
  return true;
}

ParseResult MongoConnection::parse(Direction d, const Window& w) noexcept {
  Lane& l = lane(d);
  if (l.state == State::body) {
    message_done(d);
  } else if (l.state == State::broken) {
    if (w.position < l.end) return {ParseStatus::more, 0, l.end - w.position};
    l.state = State::start;
  }
  if (w.bytes.empty()) return {};
  if (!direction_known_ && !settle_direction(d, w)) return {};
  return l.state == State::resync ? search(d, w) : parse_message(d, w);
}

// See connection.h. A search that waits for more of a call waits for kDetect bytes at most.
ParseResult MongoConnection::search(Direction d, const Window& w) noexcept {
  Header h;
  Start start = w.call_begins_at(w.position) ? look_at_message(w.bytes, h) : Start::no;
  if (start == Start::need_more) return {};
  if (start == Start::yes && is_request(d) && h.response_to != 0) start = Start::no;
  if (start == Start::yes && !is_request(d)) {
    const bool pairs = std::any_of(slots_.begin(), slots_.end(), [&](const Slot& s) {
      return !s.no_reply && (s.id == h.response_to || s.next == h.response_to);
    });
    if (!pairs) start = Start::no;
  }
  if (start == Start::yes) {
    lane(d).state = State::start;
    return parse_message(d, w);
  }
  for (const reassembly::MarkRange& m : w.marks) {
    if (m.begin > w.position && m.begin < w.position + w.bytes.size()) {
      return {ParseStatus::discard, static_cast<std::size_t>(m.begin - w.position)};
    }
  }
  return {ParseStatus::discard, w.bytes.size()};
}

ParseResult MongoConnection::parse_message(Direction d, const Window& w) noexcept {
  Lane& l = lane(d);
  l.waiting = false;
  const Start start = look_at_header(w.bytes, l.header);
  if (start == Start::no) return on_invalid(d, w);
  if (start == Start::need_more) return {};
  const Header& h = l.header;
  const std::size_t want = std::min<std::size_t>(h.length, kMaxRead);
  if (w.bytes.size() < want) {
    l.waiting = true;
    l.end = w.position + h.length;
    return {};
  }
  const ByteView message = w.bytes.first(std::min<std::size_t>(h.length, w.bytes.size()));
  return is_request(d) ? on_request(h, message, w) : on_reply(h, message, w);
}

// The message stands: the rest of it is skipped.
ParseResult MongoConnection::frame(Direction d, const Header& h, std::size_t read,
                                   const Window& w) noexcept {
  Lane& l = lane(d);
  invalid_ = 0;
  l.state = State::body;
  l.end = w.position + h.length;
  const ParseResult result{ParseStatus::frame, read, h.length - read};
  if (result.skip == 0) message_done(d);
  return result;
}

ParseResult MongoConnection::on_invalid(Direction d, const Window& w) noexcept {
  lose(d);
  lane(d).state = State::resync;
  if (++invalid_ >= kMaxInvalid) return {ParseStatus::opaque};
  return {ParseStatus::invalid, std::min<std::size_t>(1, w.bytes.size())};
}

// `body`: behind the header, as far as it was read. What is returned views it, or the decompressor.
MessageError MongoConnection::read_command(const Header& h, ByteView body, Command& c) noexcept {
  body = body.first(std::min(body.size(), kMaxRead - kHeader));
  if (h.opcode != Opcode::compressed) return parse_command(h.opcode, body, h.length - kHeader, c);
  Compressed packed;
  if (parse_compressed(body, packed) != MessageError::none) return MessageError::invalid;
  const ByteView plain = decompressor_.prefix(packed);
  if (plain.empty()) return MessageError::unreadable;
  return parse_command(packed.opcode, plain, packed.size, c);
}

MessageError MongoConnection::read_reply(const Header& h, ByteView body, bool command,
                                         Reply& r) noexcept {
  body = body.first(std::min(body.size(), kMaxRead - kHeader));
  if (h.opcode != Opcode::compressed) {
    return parse_reply(h.opcode, body, h.length - kHeader, command, r);
  }
  Compressed packed;
  if (parse_compressed(body, packed) != MessageError::none) return MessageError::invalid;
  const ByteView plain = decompressor_.prefix(packed);
  if (plain.empty()) return MessageError::unreadable;
  return parse_reply(packed.opcode, plain, packed.size, command, r);
}

ParseResult MongoConnection::on_request(const Header& h, ByteView message,
                                        const Window& w) noexcept {
  Command c;
  const MessageError error = read_command(h, message.subspan(kHeader), c);
  if (error == MessageError::invalid) return on_invalid(request_direction_, w);
  const Side side = request_direction_ == Direction::recv ? Side::server : Side::client;
  if (connection_.role == Role::unknown) {
    connection_.role = side == Side::server ? Role::inbound : Role::outbound;
  }
  // An id that is asked under again: which of the two a reply answers could not be told.
  if (Slot* same = awaiting(h.id); same != nullptr && !c.no_reply) {
    finish(*same, kLostBytes, {});
    remove(*same);
  }
  if (slots_.size() >= kMaxUnanswered) {
    finish(slots_.front(), kLostBytes, {});
    remove(slots_.front());
  }
  Slot& slot = slots_.emplace_back();
  if (++serial_ == 0) ++serial_;
  slot.serial = serial_;
  slot.id = slot.next = h.id;
  slot.no_reply = c.no_reply;
  slot.command = !c.find;
  slot.exhaust = c.exhaust;
  slot.insert = c.insert && c.statements == 0;
  if (error == MessageError::unreadable) slot.incomplete = kUnreadable;
  slot.outcome.statements = c.statements;
  if (!c.handshake) {
    slot.exchange = sink_.begin(connection_, side, w.position, w.mark_at(w.position));
  }
  if (Exchange* x = slot.exchange) {
    x->request_first = w.mark_at(w.position);
    x->request_last = w.mark_at(w.position + message.size() - 1);
    add_command(*x, connection_, c);
    sink_.request(*x);
  }
  lane(request_direction_).slot = slot.serial;
  return frame(request_direction_, h, message.size(), w);
}

// Whether a reply to nothing that is known should wait: its request may be stamped later.
bool MongoConnection::overtook(const Window& w) noexcept {
  if (partial_) return false;
  const Nanos moved = w.mark_at(w.position).time;
  if (wake_at_ == 0) wake_at_ = moved + kOvertakeTime;
  if (w.last_mark().time < wake_at_) return true;
  wake_at_ = 0;
  partial_ = true;
  return false;
}

ParseResult MongoConnection::on_reply(const Header& h, ByteView message, const Window& w) noexcept {
  const Direction d = opposite(request_direction_);
  Lane& l = lane(d);
  Slot* slot = awaiting(h.response_to);
  if (slot == nullptr && overtook(w)) return {};
  Reply r;
  const bool command = slot == nullptr || slot->command;
  const MessageError error = read_reply(h, message.subspan(kHeader), command, r);
  if (error == MessageError::invalid) return on_invalid(d, w);
  wake_at_ = 0;
  l.slot = 0;
  if (slot == nullptr) return frame(d, h, message.size(), w);
  l.slot = slot->serial;
  l.last_reply = !r.more_to_come && !(slot->exhaust && r.cursor_open);
  slot->next = h.id;
  slot->answered = true;
  take_reply(*slot, r);
  // Whether it was refused is not known.
  if (error == MessageError::unreadable) slot->incomplete = kUnreadable;
  if (Exchange* x = slot->exchange) {
    if (!x->response_first.seen()) x->response_first = w.mark_at(w.position);
    x->response_last = w.mark_at(w.position + message.size() - 1);
  }
  return frame(d, h, message.size(), w);
}

void MongoConnection::take_reply(Slot& slot, const Reply& r) noexcept {
  Outcome& o = slot.outcome;
  if (r.failed) {
    o.failed = true;
    o.code = r.code;
  }
  if (r.returned) {
    o.returned_known = true;
    o.returned += *r.returned;
  }
  if (slot.insert && !r.failed && r.n && *r.n > 0) {
    o.statements = static_cast<std::uint64_t>(*r.n);
  }
}

// The last byte of a message has passed.
void MongoConnection::message_done(Direction d) noexcept {
  Lane& l = lane(d);
  l.state = State::start;
  Slot* slot = find(l.slot);
  if (slot == nullptr) return;
  if (is_request(d)) {
    if (!slot->no_reply) return;
    finish(*slot, {}, {});
    remove(*slot);
    return;
  }
  l.slot = 0;
  if (!l.last_reply) {
    slot->answered = false;
    return;
  }
  const std::uint32_t serial = slot->serial;
  finish(*slot, {}, {});
  remove(*slot);
  // Replies that were lost before a younger request was answered do not come any more.
  while (!slots_.empty() && slots_.front().lost && slots_.front().serial < serial) {
    finish(slots_.front(), kLostBytes, {});
    remove(slots_.front());
  }
}

void MongoConnection::skipped(Direction d, std::uint64_t, const IoMark& mark) noexcept {
  if (!direction_known_ || lane(d).state != State::body) return;
  const Slot* slot = find(lane(d).slot);
  if (slot == nullptr || slot->exchange == nullptr) return;
  (is_request(d) ? slot->exchange->request_last : slot->exchange->response_last) = mark;
}

// Messages were lost in this direction.
void MongoConnection::lose(Direction d) noexcept {
  Lane& l = lane(d);
  partial_ = true;
  l.waiting = false;
  if (!direction_known_) return;
  if (!is_request(d)) {
    for (Slot& slot : slots_) slot.lost = true;
  }
  Slot* slot = l.state == State::body ? find(l.slot) : nullptr;
  l.slot = 0;
  if (slot == nullptr || (is_request(d) && !slot->no_reply)) return;
  finish(*slot, kLostBytes, {});
  remove(*slot);
}

void MongoConnection::gap(Direction d, std::uint64_t position, std::uint64_t length) noexcept {
  Lane& l = lane(d);
  const bool inside = l.waiting || l.state == State::body || l.state == State::broken;
  if (direction_known_ && inside && length > 0 && position + length <= l.end) {
    // Its header says where the next one begins. A message that could not be read is lost.
    if (l.waiting) {
      partial_ = true;
      Slot* slot = is_request(d) ? nullptr : awaiting(l.header.response_to);
      if (slot != nullptr) {
        finish(*slot, kLostBytes, {});
        remove(*slot);
      }
      l.slot = 0;
      l.state = State::broken;
    }
    l.waiting = false;
    return;
  }
  lose(d);
  l.state = State::resync;
}

MongoConnection::Slot* MongoConnection::find(std::uint32_t serial) noexcept {
  if (serial == 0) return nullptr;
  for (std::size_t i = slots_.size(); i > 0; --i) {
    if (slots_[i - 1].serial == serial) return &slots_[i - 1];
  }
  return nullptr;
}

MongoConnection::Slot* MongoConnection::awaiting(std::int32_t id) noexcept {
  for (std::size_t i = slots_.size(); i > 0; --i) {
    Slot& s = slots_[i - 1];
    if (!s.no_reply && (s.next == id || s.id == id)) return &s;
  }
  return nullptr;
}

void MongoConnection::finish(Slot& slot, std::string_view incomplete,
                             std::string_view error) noexcept {
  Exchange* x = slot.exchange;
  if (x == nullptr) return;
  slot.exchange = nullptr;
  // A request that could not be read and one that did not end say both the first.
  x->incomplete = slot.incomplete.empty() ? incomplete : slot.incomplete;
  add_outcome(*x, slot.outcome);
  if (!error.empty() && !slot.outcome.failed) add_no_answer(*x, error);
  sink_.finish(x);
}

void MongoConnection::remove(Slot& slot) noexcept {
  slots_.erase(slots_.begin() + (&slot - slots_.data()));
}

void MongoConnection::finish_all(std::string_view incomplete, std::string_view error) noexcept {
  for (Slot& slot : slots_) {
    // An answer may have been among what was lost: that there was none is not known.
    if (slot.lost)
      finish(slot, kLostBytes, {});
    else
      finish(slot, incomplete, slot.no_reply ? std::string_view{} : error);
  }
  slots_.clear();
}

void MongoConnection::eof(Direction d, const IoMark&) noexcept {
  if (!direction_known_ || is_request(d)) return;
  finish_all(kClosed, kErrorClosed);
}

// Of the timed out, too, the reply may come; it is left alone then.
void MongoConnection::timeout(Nanos) noexcept {
  for (std::size_t i = slots_.size(); i > 0; --i) {
    Slot& slot = slots_[i - 1];
    if (slot.answered || slot.no_reply) continue;
    if (slot.lost)
      finish(slot, kLostBytes, {});
    else
      finish(slot, kTimeout, kErrorTimeout);
    remove(slot);
  }
  partial_ = true;
}

void MongoConnection::tick(Nanos now) noexcept {
  if (wake_at_ == 0 || now < wake_at_) return;
  // A reply that overtook nothing: the next parse() lets it pass.
  wake_at_ = 0;
  partial_ = true;
}

void MongoConnection::end(EndReason reason, Nanos, std::uint32_t error) noexcept {
  if (reason != EndReason::closed) {
    // What was no message was no loss, then.
    if (reason == EndReason::revised) {
      for (Slot& slot : slots_) slot.lost = false;
    }
    finish_all(incomplete_of(reason), {});
    return;
  }
  // A reply that had begun is no refusal to answer.
  const Lane& replies = lane(opposite(request_direction_));
  if (direction_known_ && replies.state == State::body && error == 0) {
    if (Slot* slot = find(replies.slot)) {
      finish(*slot, kClosed, {});
      remove(*slot);
    }
  }
  finish_all(kClosed, socket_error(error));
}

Exchange* MongoConnection::current(Direction d) const noexcept {
  if (!direction_known_ || slots_.empty()) return nullptr;
  const Lane& l = lane(d);
  if (l.slot != 0) {
    for (const Slot& s : slots_) {
      if (s.serial == l.slot) return s.exchange;
    }
  }
  if (is_request(d)) return l.waiting ? nullptr : slots_.back().exchange;
  if (l.waiting) {
    for (const Slot& s : slots_) {
      if (s.next == l.header.response_to || s.id == l.header.response_to) return s.exchange;
    }
  }
  return slots_.size() == 1 ? slots_.front().exchange : nullptr;
}

std::optional<std::uint32_t> MongoConnection::rest() noexcept {
  for (const Lane& l : lanes_) {
    if (l.state != State::start || l.waiting) return std::nullopt;
  }
  if (!slots_.empty() || wake_at_ != 0 || !direction_known_) return std::nullopt;
  return (request_direction_ == Direction::send ? 1u : 0u) | (partial_ ? 2u : 0u);
}

void MongoConnection::resume(std::uint32_t rested) noexcept {
  direction_known_ = true;
  request_direction_ = (rested & 1) != 0 ? Direction::send : Direction::recv;
  partial_ = (rested & 2) != 0;
}

std::size_t MongoConnection::memory() const noexcept {
  return sizeof *this + slots_.capacity() * sizeof(Slot);
}

namespace {

class MongoDb final : public Protocol {
 public:
  Verdict detect(Direction, ByteView bytes) const noexcept override {
    Header header;
    switch (look_at_message(bytes, header)) {
      case Start::yes:
        return Verdict::yes;
      case Start::need_more:
        return Verdict::need_more;
      case Start::no:
        break;
    }
    return Verdict::no;
  }
  std::unique_ptr<ProtocolParser> open(Connection& connection, ExchangeSink& sink,
                                       std::array<bool, 2> from_start,
                                       bool lost) noexcept override {
    return std::make_unique<MongoConnection>(connection, sink, decompressor_, from_start, lost);
  }
  std::unique_ptr<ProtocolParser> resume(Connection& connection, ExchangeSink& sink,
                                         std::uint32_t rested) noexcept override {
    auto parser = std::make_unique<MongoConnection>(connection, sink, decompressor_,
                                                    std::array{true, true}, false);
    parser->resume(rested);
    return parser;
  }

 private:
  Decompressor decompressor_;
};

}  // namespace

std::unique_ptr<Protocol> make_protocol() { return std::make_unique<MongoDb>(); }

}  // namespace olly::mongodb
