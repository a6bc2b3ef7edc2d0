#include "protocol/mysql/connection.h"

#include <algorithm>

#include "protocol/common/database.h"
#include "protocol/common/ending.h"
#include "protocol/mysql/protocol.h"

namespace olly::mysql {

MysqlConnection::MysqlConnection(Connection& connection, ExchangeSink& sink, Shared& shared,
                                 std::array<bool, 2> from_start, bool lost) noexcept
    : connection_(connection), sink_(sink), shared_(shared) {
  session_.met = lost || !from_start[0] || !from_start[1];
}

MysqlConnection::MysqlConnection(Connection& connection, ExchangeSink& sink, Shared& shared,
                                 Session&& session) noexcept
    : connection_(connection),
      sink_(sink),
      shared_(shared),
      session_(std::move(session)),
      phase_(session_.logs_in ? Phase::login : Phase::commands),
      direction_known_(true),
      proven_(true),
      in_order_(true) {}

MysqlConnection::~MysqlConnection() {
  if (queue_) shared_.queues.give(std::move(queue_));
}

ParseResult MysqlConnection::parse(Direction d, const Window& w) noexcept {
  if (!direction_known_ && !settle_direction(d, w)) return {ParseStatus::invalid};
  if (phase_ == Phase::commands && compressed()) return unpack(d, w);
  return parse_packets(d, w);
}

ParseResult MysqlConnection::parse_packets(Direction d, const Window& w) noexcept {
  Lane& l = lane(d);
  if (l.skipping) {
    l.skipping = false;
    if (!l.continued) packet_done(d);
  }
  if (w.bytes.empty()) return {};
  return l.searching ? search(d, w) : packets(d, w);
}

// The server speaks first, and only it says version 10. False: this is not the protocol.
bool MysqlConnection::settle_direction(Direction d, const Window& w) noexcept {
  if (w.bytes.size() <= kHeaderSize) return true;  // cannot be: detection saw more
  const PacketHeader h = packet_header(w.bytes);
  Greeting greeting;
  const bool greets = w.position == 0 && parse_greeting(w.bytes.subspan(kHeaderSize), h.length,
                                                        greeting) != ParseError::invalid;
  if (!greets && !session_.met) return false;
  session_.request_direction = greets ? opposite(d) : d;
  direction_known_ = true;
  const Role role = session_.request_direction == Direction::recv ? Role::inbound : Role::outbound;
  if (connection_.role == Role::unknown) {
    connection_.role = role;
  } else if (connection_.role != role) {
    return false;
  }
  if (greets) {
    in_order_ = true;
    return true;
  }
  phase_ = Phase::commands;
  lanes_[0].searching = lanes_[1].searching = true;
  return true;
}

std::uint32_t MysqlConnection::wanted(Direction d, std::uint32_t length,
                                      ByteView payload) const noexcept {
  if (length == 0) return 0;
  if (phase_ == Phase::greeting || phase_ == Phase::login) return std::min(length, kMaxOther);
  if (payload.empty()) return 1;
  if (is_request(d)) {
    if (infile_ || phase_ == Phase::auth) return 1;
    const auto command = static_cast<Command>(payload[0]);
    const bool text = command == Command::query || command == Command::stmt_prepare;
    return std::min(length, text ? kMaxRaw : kMaxOther);
  }
  switch (payload[0]) {
    case 0x00:
      return std::min(length, stage_ == Stage::rows ? 1 : kMaxOk);
    case 0xfe:
      return std::min(length, kMaxOk);
    case 0xff:
      return std::min<std::uint32_t>(length, 9);
    default:
      return std::min<std::uint32_t>(length, stage_ == Stage::first ? 10 : 1);
  }
}

ParseResult MysqlConnection::packets(Direction d, const Window& w) noexcept {
  Lane& l = lane(d);
  std::size_t at = 0;
  // A command alone proves nothing; while nothing is proven, it may be another protocol's.
  bool proof = proven_;
  const auto status = [&] { return proof ? ParseStatus::frame : ParseStatus::discard; };
  while (w.bytes.size() - at >= kHeaderSize) {
    const ByteView rest = w.bytes.subspan(at);
    const PacketHeader h = packet_header(rest);
    const ByteView body = rest.subspan(kHeaderSize);
    if (l.continued) {
      if (!on_continuation(d, h.sequence)) return at > 0 ? ParseResult{status(), at} : on_invalid();
    } else {
      const ByteView payload = body.first(std::min<std::size_t>(body.size(), h.length));
      if (payload.size() < wanted(d, h.length, payload)) break;
      const Verdict v = on_packet(d, {h, payload, w.position + at}, w);
      if (v == Verdict::wait) {
        waiting_ = true;
        break;
      }
      if (v == Verdict::opaque) return {ParseStatus::opaque, at + kHeaderSize + payload.size()};
      if (v == Verdict::tls) return {ParseStatus::tls, at + kHeaderSize + payload.size()};
      if (v == Verdict::invalid) {
        // What comes before it is settled first: it is found again, with nothing before it.
        return at > 0 ? ParseResult{status(), at} : on_invalid();
      }
      proof |= proven_ || !is_request(d);
    }
    const std::size_t here = std::min<std::size_t>(body.size(), h.length);
    at += kHeaderSize + here;
    l.continued = h.length == kMaxPacket;
    l.sequence = static_cast<std::uint8_t>(h.sequence + 1);
    mark_progress(d, w.mark_at(w.position + at - 1));
    if (here < h.length) {
      l.skipping = true;
      return {status(), at, h.length - here};
    }
    if (!l.continued) packet_done(d);
    if (l.searching) break;
    if (phase_ == Phase::commands && compressed() && !unpackers_) break;
  }
  if (at == 0) return {};
  return {status(), at};
}

MysqlConnection::Verdict MysqlConnection::on_packet(Direction d, const Packet& p,
                                                    const Window& w) noexcept {
  return is_request(d) ? on_request(p, w) : on_response(p, w);
}

// A packet that continues one of 16 MiB.
bool MysqlConnection::on_continuation(Direction d, std::uint8_t sequence) noexcept {
  if (sequence != lane(d).sequence) return false;
  const auto next = static_cast<std::uint8_t>(sequence + 1);
  if (!is_request(d)) {
    answer_sequence_ = next;
  } else if (infile_) {
    infile_sequence_ = next;
  } else if (request_open_ && !queue_empty()) {
    queue_->back().next_sequence = next;
  }
  return true;
}

// A packet's last byte has passed.
void MysqlConnection::packet_done(Direction d) noexcept {
  if (is_request(d)) {
    if (request_open_ && !queue_empty()) queue_->back().done = true;
    request_open_ = false;
    return;
  }
  if (ended_) complete();
}

void MysqlConnection::mark_progress(Direction d, const IoMark& mark) noexcept {
  if (queue_empty()) return;
  if (is_request(d)) {
    Exchange* x = queue_->back().exchange;
    if (request_open_ && x != nullptr) x->request_last = mark;
  } else if (begun_ && queue_->front().exchange != nullptr) {
    queue_->front().exchange->response_last = mark;
  }
}

// Could a packet that begins what the direction is searched for stand here? `more`: the bytes end
// too early to tell.
bool MysqlConnection::starts_here(Direction d, ByteView bytes, bool& more) const noexcept {
  more = bytes.size() <= kHeaderSize;
  if (more) return false;
  const PacketHeader h = packet_header(bytes);
  const ByteView body = bytes.subspan(kHeaderSize);
  const ByteView payload = body.first(std::min<std::size_t>(body.size(), h.length));
  if (is_request(d)) {
    if (h.sequence != 0 || !plausible_command(payload, h.length)) return false;
    if (body.size() <= h.length) return true;
    // Commands may follow each other in one call.
    const ByteView next = body.subspan(h.length);
    return next.size() < kHeaderSize || next[3] == 0;
  }
  const Slot& slot = queue_->front();
  if (h.sequence != slot.next_sequence) return false;
  more = payload.size() < wanted(d, h.length, payload);
  return !more && fits_answer(payload, h.length);
}

bool MysqlConnection::fits_answer(ByteView payload, std::uint32_t length) const noexcept {
  if (payload.empty()) return false;
  const std::uint8_t first = payload[0];
  if (first == 0xff) return length >= 3;
  ColumnCount count;
  Ok ok;
  PrepareOk prepare;
  switch (queue_->front().answer) {
    case Answer::simple:
      return is_eof(payload, length) || parse_ok(payload, false, ok) == ParseError::none;
    case Answer::prepare:
      return parse_prepare_ok(payload, length, prepare) == ParseError::none;
    case Answer::fields:
      return first == 0xfe || first == 0x03;
    case Answer::result:
      if (first == 0x00) return parse_ok(payload, false, ok) == ParseError::none;
      return first == 0xfb || parse_column_count(payload, length, count) == ParseError::none;
    default:
      return true;
  }
}

ParseResult MysqlConnection::search(Direction d, const Window& w) noexcept {
  Lane& l = lane(d);
  if (!is_request(d)) {
    session_.answered = true;
    // Nothing is asked: the end of an answer whose beginning is not known.
    if (queue_empty()) return {ParseStatus::discard, w.bytes.size()};
  }
  // What was moved before the command is no answer to it.
  const bool stale = !is_request(d) && w.mark_at(w.position).time < search_from_;
  const bool call = unpackers_ ? unpacker(d).begins_at(w.position) : w.call_begins_at(w.position);
  if (!stale && call) {
    bool more = false;
    if (starts_here(d, w.bytes, more)) {
      l.searching = false;
      return packets(d, w);
    }
    if (more) return {};
    if (!is_request(d)) {
      // Another answer than that of the command: some were pipelined.
      lose_order(kLostBytes, false);
      if (!proven_) return {ParseStatus::invalid};
    }
  }
  return {ParseStatus::discard, next_call(w, 0)};
}

// Not what was to come. Whatever it was, commands or answers may have been in it.
ParseResult MysqlConnection::on_invalid() noexcept {
  lose_order(kUnreadable, true);
  begin_commands();
  if (++session_.invalid >= kMaxInvalid) return {ParseStatus::opaque};
  return {ParseStatus::invalid};
}

// Everything open ends. `requests_too`: where the next command begins is not known, either.
void MysqlConnection::lose_order(std::string_view incomplete, bool requests_too) noexcept {
  bool unclear = requests_too;
  // A client that has always waited has done so this time, too: what it says next, and the answer
  // to that, begin where they are found.
  const bool waits = proven_ && in_order_ && !session_.pipelined && !requests_too && !infile_ &&
                     (!queue_ || queue_->size() <= 1);
  // What is lost of an answer counts as one; what is lost of commands may have more to come.
  session_.answered = !requests_too && (!queue_ || queue_->size() <= 1);
  for (std::size_t i = 0; queue_ && i < queue_->size(); ++i) {
    const Slot& s = queue_->at(i);
    unclear |= s.selects || s.unclear || s.unclear_if_several || s.answer == Answer::login ||
               s.command == Command::reset_connection;
  }
  if (unclear) {
    forget_database();
    session_.statements.clear();
    session_.last_prepared.reset();
  }
  finish_all(incomplete, {});
  in_order_ = waits;
  begun_ = ended_ = trailing_ = overdue_ = false;
  wake_at_ = 0;
  stage_ = Stage::first;
  Lane& request = request_lane();
  if (infile_ || requests_too) {
    request = {};
    request.searching = true;
  }
  infile_ = false;
  if (requests_too) request_open_ = false;
  response_lane() = {};
  response_lane().searching = true;
}

void MysqlConnection::gap(Direction d, std::uint64_t, std::uint64_t) noexcept {
  session_.met = true;
  if (!direction_known_) return;
  begin_commands();
  if (unpackers_) unpacker(d).lose();
  lose_order(kLostBytes, is_request(d));
}

// Where the login's end was lost, nothing is known to begin where it is read on.
void MysqlConnection::begin_commands() noexcept {
  if (phase_ == Phase::commands) return;
  phase_ = Phase::commands;
  session_.logs_in = false;
  if (!compressed()) return;
  unpackers_ = std::make_unique<Unpackers>(shared_.unpackers);
  for (Unpacker& u : unpackers_->lanes) u.lose();
}

// Packets inside of others.
ParseResult MysqlConnection::unpack(Direction d, const Window& w) noexcept {
  if (!unpackers_) unpackers_ = std::make_unique<Unpackers>(shared_.unpackers);
  Unpacker& u = unpacker(d);
  if (u.held && w.bytes.empty()) return {};
  u.open();
  const ParseResult result = read_content(d, u, w);
  u.close();
  return result;
}

ParseResult MysqlConnection::read_content(Direction d, Unpacker& u, const Window& w) noexcept {
  std::size_t at = 0;
  ParseStatus status = ParseStatus::more;
  for (bool had_piece = u.held;;) {
    waiting_ = false;
    while (had_piece && !u.skipping()) {
      const ParseResult r = parse_packets(d, u.content());
      if (r.status == ParseStatus::opaque) return {ParseStatus::opaque, w.bytes.size()};
      if (r.status == ParseStatus::frame) status = ParseStatus::frame;
      const bool searches = r.status == ParseStatus::invalid;
      if (r.consumed == 0 && r.skip == 0 && !searches) break;
      u.take(r.consumed, r.skip);
    }
    if (waiting_) {
      // With the last byte comes another attempt.
      if (u.held) return {};
      u.held = true;
      return {ParseStatus::need_more, at - 1};
    }
    if (u.held) at = 1;
    u.held = false;
    const bool skipping = u.skipping();
    const std::size_t from = at;
    switch (u.next(w, at, is_request(d))) {
      case Unpacker::Step::more:
        return at == 0 ? ParseResult{} : ParseResult{status, at};
      case Unpacker::Step::passed:
        return {from == 0 ? ParseStatus::discard : status, at};
      case Unpacker::Step::invalid:
        if (on_invalid().status == ParseStatus::opaque) return {ParseStatus::opaque, at};
        return at == 0 ? ParseResult{ParseStatus::discard, 1} : ParseResult{status, at};
      case Unpacker::Step::piece:
        had_piece = true;
        if (skipping) mark_progress(d, u.content().last_mark());
    }
  }
}

void MysqlConnection::skipped(Direction d, std::uint64_t, const IoMark& mark) noexcept {
  mark_progress(d, mark);
}

void MysqlConnection::forget_database() noexcept {
  session_.database.clear();
  session_.database_known = false;
}

void MysqlConnection::drop_front() noexcept {
  queue_->pop();
  if (queue_->empty()) shared_.queues.give(std::move(queue_));
}

void MysqlConnection::finish(Slot& slot, std::string_view incomplete,
                             std::string_view error) noexcept {
  Exchange* x = slot.exchange;
  if (x == nullptr) return;
  slot.exchange = nullptr;
  if (incomplete.empty() && slot.probe) incomplete = kLostBytes;
  if (slot.probe) x->response_first = x->response_last = {};
  if (incomplete.empty()) {
    Outcome outcome;
    outcome.has_rows = slot.has_set || (slot.has_ok && slot.answer == Answer::result);
    outcome.rows = slot.has_set ? slot.rows : slot.affected;
    outcome.error = slot.error;
    add_outcome(*x, outcome);
  } else if (!error.empty()) {
    add_no_answer(*x, error);
  }
  x->incomplete = incomplete;
  sink_.finish(x);
}

void MysqlConnection::finish_all(std::string_view incomplete, std::string_view error) noexcept {
  while (!queue_empty()) {
    finish(queue_->front(), incomplete, error);
    drop_front();
  }
  begun_ = ended_ = request_open_ = false;
  stage_ = Stage::first;
}

void MysqlConnection::eof(Direction d, const IoMark&) noexcept {
  if (!direction_known_ || is_request(d)) return;
  finish_all(kClosed, kErrorClosed);
}

void MysqlConnection::timeout(Nanos) noexcept {
  if (queue_empty()) return;
  for (std::size_t i = 0; i < queue_->size(); ++i) {
    // An answer that has begun may be on its way unseen.
    if (i == 0 && begun_) continue;
    if (queue_->at(i).done) finish(queue_->at(i), kTimeout, kErrorTimeout);
  }
}

void MysqlConnection::tick(Nanos now) noexcept {
  if (wake_at_ == 0 || now < wake_at_) return;
  wake_at_ = 0;
  overdue_ = true;
}

void MysqlConnection::end(EndReason reason, Nanos, std::uint32_t error) noexcept {
  if (reason == EndReason::closed) {
    finish_all(kClosed, socket_error(error));
  } else {
    finish_all(incomplete_of(reason), {});
  }
}

Exchange* MysqlConnection::current(Direction d) const noexcept {
  if (queue_empty() || !direction_known_) return nullptr;
  return is_request(d) ? queue_->back().exchange : queue_->front().exchange;
}

// Between a command's answer and the next command, with nothing in doubt.
std::optional<std::uint32_t> MysqlConnection::rest() noexcept {
  const auto settled = [](const Lane& l) { return !l.searching && !l.skipping && !l.continued; };
  const bool between = direction_known_ && phase_ == Phase::commands && queue_empty() &&
                       settled(lanes_[0]) && settled(lanes_[1]) && wake_at_ == 0;
  const bool plain = proven_ && in_order_ && !begun_ && !ended_ && !request_open_ && !infile_ &&
                     !trailing_ && !overdue_ && !unpackers_;
  if (!session_.logs_in && (!between || !plain)) return std::nullopt;
  return shared_.rested.put(std::move(session_));
}

std::size_t Session::bytes() const noexcept {
  return statements.memory() + database.capacity() + (last_prepared ? last_prepared->bytes() : 0);
}

std::size_t MysqlConnection::memory() const noexcept {
  std::size_t all = session_.bytes();
  if (queue_) all += queue_->bytes();
  if (unpackers_) all += unpackers_->lanes[0].bytes() + unpackers_->lanes[1].bytes();
  return all;
}

namespace {

// Servers write rows in pieces of this size, and libraries read in no larger ones.
constexpr std::uint32_t kCopy = 16 * 1024;

// A command that a client could send first after the agent came: whole, alone in its call.
olly::Verdict detect_command(ByteView bytes, const PacketHeader& h) noexcept {
  if (h.sequence != 0 || h.length == 0 || h.length > 16 * 1024) return olly::Verdict::no;
  if (bytes.size() == kHeaderSize) return olly::Verdict::need_more;
  const std::size_t size = kHeaderSize + h.length;
  const ByteView payload =
      bytes.subspan(kHeaderSize).first(std::min<std::size_t>(bytes.size() - kHeaderSize, h.length));
  if (answer_of(payload[0]) == Answer::unknown || answer_of(payload[0]) == Answer::none ||
      !plausible_command(payload, h.length)) {
    return olly::Verdict::no;
  }
  if (bytes.size() < size) return olly::Verdict::need_more;
  return bytes.size() == size ? olly::Verdict::maybe : olly::Verdict::no;
}

class Mysql final : public Protocol {
 public:
  olly::Verdict detect(Direction, ByteView bytes) const noexcept override {
    if (bytes.size() >= 2 && bytes.size() < kHeaderSize && bytes[1] > 0x40)
      return olly::Verdict::no;
    if (bytes.size() < kHeaderSize) return olly::Verdict::need_more;
    const PacketHeader h = packet_header(bytes);
    if (h.sequence != 0) return olly::Verdict::no;
    Greeting greeting;
    const ByteView body = bytes.subspan(kHeaderSize);
    switch (parse_greeting(body.first(std::min<std::size_t>(body.size(), h.length)), h.length,
                           greeting)) {
      case ParseError::none:
        // The server waits for the client now.
        return body.size() == h.length ? olly::Verdict::yes : olly::Verdict::no;
      case ParseError::incomplete:
        return olly::Verdict::need_more;
      case ParseError::invalid:
        break;
    }
    return detect_command(bytes, h);
  }
  std::uint32_t bytes_per_call() const noexcept override { return kCopy; }
  std::unique_ptr<ProtocolParser> open(Connection& connection, ExchangeSink& sink,
                                       std::array<bool, 2> from_start,
                                       bool lost) noexcept override {
    return std::make_unique<MysqlConnection>(connection, sink, shared_, from_start, lost);
  }
  std::unique_ptr<ProtocolParser> resume(Connection& connection, ExchangeSink& sink,
                                         std::uint32_t rested) noexcept override {
    return std::make_unique<MysqlConnection>(connection, sink, shared_,
                                             shared_.rested.take(rested));
  }
  void forget(std::uint32_t rested) noexcept override { shared_.rested.take(rested); }
  std::size_t rested_bytes() const noexcept override { return shared_.rested.bytes(); }

 private:
  Shared shared_;
};

}  // namespace

std::unique_ptr<Protocol> make_protocol() { return std::make_unique<Mysql>(); }

}  // namespace olly::mysql
