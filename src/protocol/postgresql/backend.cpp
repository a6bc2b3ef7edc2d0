// What servers send.
#include "protocol/postgresql/attributes.h"
#include "protocol/postgresql/connection.h"
#include "protocol/postgresql/message.h"

namespace olly::postgresql {
namespace {

constexpr std::size_t kMaxTag = 1024;
constexpr std::size_t kMaxErrorRead = 1024;     // severity and code come first
constexpr std::size_t kMaxParameterRead = 128;  // of a ParameterStatus

}  // namespace

ParseResult PgConnection::back(const Window& w) noexcept {
  if (front_ == Front::answer) return answer_to_ssl(w);
  if (front_ == Front::first) return overtook(w);
  if (back_ == Back::lost) return search_back(w);
  Header h;
  switch (parse_header(w.bytes, Sender::backend, h)) {
    case Error::incomplete:
      return {};
    case Error::invalid:
      lose_all();
      return {ParseStatus::invalid, w.bytes.size()};
    case Error::none:
      break;
  }
  if (h.type == 'N' || h.type == 'S' || h.type == 'A') return asynchronous(w, h);
  if (starting_) return starting(w, h);
  if (h.type == 'E') return error(w, h);
  if (idle()) return overtook(w);
  if (h.type == 'D' || h.type == 'd') return rows(w);
  ByteView body;
  if ((h.type == 'C' || h.type == 'Z') && !body_of(w, h, kMaxTag, body)) return {};
  const ParseResult result = take(w, h);
  const IoMark& mark = mark_of_last(w, result);
  if (h.type == 'W') {
    // COPY in both directions: replication, which is no request and answer.
    mark_response(mark);
    finish(steps_->front(), {}, {});
    return {ParseStatus::opaque, result.consumed};
  }
  if (!answers(h.type, body, mark)) {
    lose_all();
    return {ParseStatus::invalid, w.bytes.size()};
  }
  return result;
}

// The answer to SSLRequest or GSSENCRequest is one byte: no, or the next is a handshake.
ParseResult PgConnection::answer_to_ssl(const Window& w) noexcept {
  const std::uint8_t answer = w.bytes[0];
  if (answer == 'S') return {ParseStatus::tls, 1};
  if (answer == 'G') return {ParseStatus::opaque, 1};
  front_ = Front::first;
  if (answer == 'N') return {ParseStatus::frame, 1};
  // A server that does not know the question says so in a message, and closes.
  Header h;
  if (answer == 'E' && parse_header(w.bytes, Sender::backend, h) == Error::none) {
    front_ = Front::over;
    starting_ = true;
    return take(w, h);
  }
  if (answer == 'E' && w.bytes.size() < kHeader) {
    front_ = Front::answer;
    return {};
  }
  return {ParseStatus::invalid, w.bytes.size()};
}

// Authentication, of which nothing is kept, up to the first ReadyForQuery.
ParseResult PgConnection::starting(const Window& w, const Header& h) noexcept {
  switch (h.type) {
    case 'R':
    case 'K':
    case 'v':
    case 'E':
      return take(w, h);
    case 'Z':
      if (w.bytes.size() < h.size) return {};
      starting_ = false;
      return take(w, h);
    default:
      lose_all();
      return {ParseStatus::invalid, w.bytes.size()};
  }
}

// An answer to nothing: its request was stamped later (or was lost).
ParseResult PgConnection::overtook(const Window& w) noexcept {
  if (overtake_expired_ || (overtake_at_ != 0 && w.last_mark().time >= overtake_at_)) {
    overtake_expired_ = false;
    lose_all();
    return search_back(w);
  }
  settle_at_ = 0;  // what is on trial may have been this one's
  if (overtake_at_ == 0) overtake_at_ = w.mark_at(w.position).time + kOvertakeTime;
  return {};
}

ParseResult PgConnection::asynchronous(const Window& w, const Header& h) noexcept {
  ByteView body;
  if (h.type != 'S') return take(w, h);
  if (!body_of(w, h, kMaxParameterRead, body)) return {};
  std::string_view name;
  std::string_view value;
  if (take_string(body, name) && name == "standard_conforming_strings" &&
      take_string(body, value)) {
    backslashes_ = value == "off";
  }
  return take(w, h);
}

// Rows and COPY data, as many as there are: only their number is wanted.
ParseResult PgConnection::rows(const Window& w) noexcept {
  Step& step = steps_->front();
  if (step.kind != Step::Kind::query && step.kind != Step::Kind::execute) {
    lose_all();
    return {ParseStatus::invalid, w.bytes.size()};
  }
  ParseResult result{ParseStatus::frame};
  while (result.skip == 0) {
    Header h;
    const ByteView rest = w.bytes.subspan(result.consumed);
    if (parse_header(rest, Sender::backend, h) != Error::none) break;
    if (h.type != 'D' && h.type != 'd') break;
    if (h.type == 'D') {
      ++step.rows;
      step.rows_known = true;
    }
    const auto here = static_cast<std::size_t>(std::min<std::uint64_t>(h.size, rest.size()));
    result.consumed += here;
    result.skip = h.size - here;
  }
  if (step.exchange != nullptr && !step.exchange->response_first.seen()) {
    step.exchange->response_first = w.mark_at(w.position);
  }
  mark_response(mark_of_last(w, result));
  return result;
}

// False: the message does not answer what is asked next.
bool PgConnection::answers(char type, ByteView body, const IoMark& mark) noexcept {
  using Kind = Step::Kind;
  Step& step = steps_->front();
  if (type == 'Z') {
    if (step.kind != Kind::query && step.kind != Kind::sync && step.kind != Kind::function) {
      return false;
    }
    ready(static_cast<char>(body[0]), mark);
    return true;
  }
  bool fits = false;
  switch (step.kind) {
    case Kind::query:
      return answers_query(type, body, step, mark);
    case Kind::execute:
      return answers_execute(type, body, step, mark);
    case Kind::function:
      if (type == 'V') mark_response(mark);
      return type == 'V';
    case Kind::parse:
      fits = type == '1';
      break;
    case Kind::bind:
      fits = type == '2';
      break;
    case Kind::close:
      fits = type == '3';
      break;
    case Kind::describe:
      if (type == 't') return true;
      fits = type == 'T' || type == 'n';
      break;
    case Kind::sync:
      break;
  }
  if (fits) pop();
  return fits;
}

bool PgConnection::answers_query(char type, ByteView, Step& step, const IoMark& mark) noexcept {
  switch (type) {
    case 'T':
      step.rows_known = true;
      break;
    case 'C':
    case 'I':
    case 'H':
    case 'c':
      break;
    case 'G':
      return true;  // the client's data comes first
    default:
      return false;
  }
  mark_response(mark);
  return true;
}

bool PgConnection::answers_execute(char type, ByteView body, Step& step,
                                   const IoMark& mark) noexcept {
  switch (type) {
    case 'C': {
      const std::string_view tag = as_text(body);
      if (tag.starts_with("SELECT ") || tag.starts_with("FETCH ")) step.rows_known = true;
      break;
    }
    case 'I':
    case 's':
      break;
    case 'H':
    case 'c':
      mark_response(mark);
      return true;
    case 'G':
      return true;
    default:
      return false;
  }
  mark_response(mark);
  finish(step, {}, {});
  pop();
  return true;
}

void PgConnection::ready(char status, const IoMark& mark) noexcept {
  mark_response(mark);
  finish(steps_->front(), {}, {});
  pop();
  if (status == 'I') portals_.clear();  // they live as long as their transaction
  if (!idle()) return;
  if (!held_.empty()) settle_at_ = mark.time + kTrialTime;
  if (front_ == Front::lost) {
    back_ = Back::lost;
    tail_ = {};
    boundary_ = true;
  }
}

ParseResult PgConnection::error(const Window& w, const Header& h) noexcept {
  ByteView body;
  if (!body_of(w, h, kMaxErrorRead, body)) return {};
  const ErrorFields fields = parse_error(body);
  if (fields.code.empty()) {
    lose_all();
    return {ParseStatus::invalid, w.bytes.size()};
  }
  // Nobody asked for it: the server shuts down, say.
  if (idle() && fields.fatal) return take(w, h);
  if (idle() && !skip_to_sync_) return overtook(w);
  const ParseResult result = take(w, h);
  if (!idle()) failed(fields, mark_of_last(w, result));
  return result;
}

void PgConnection::failed(const ErrorFields& error, const IoMark& mark) noexcept {
  Step& step = steps_->front();
  switch (step.kind) {
    case Step::Kind::query:
    case Step::Kind::function:
      mark_response(mark);
      if (step.code[0] == '\0') set_code(step, error);
      return;
    case Step::Kind::sync:
      return;  // the commit at a Sync failed: its statements have had their answers
    default:
      fail_turn(error, mark);
      return;
  }
}

void PgConnection::set_code(Step& step, const ErrorFields& error) noexcept {
  std::copy(error.code.begin(), error.code.end(), step.code.begin());
}

// The message at the front failed; it is for the Execute that it leads to. All behind it up to the
// Sync is skipped by the server.
void PgConnection::fail_turn(const ErrorFields& error, const IoMark& mark) noexcept {
  Step* failed = nullptr;
  for (std::size_t i = 0; i < steps_->size() && failed == nullptr; ++i) {
    Step& step = steps_->at(i);
    if (step.kind == Step::Kind::sync) break;
    if (step.kind == Step::Kind::execute) failed = &step;
  }
  if (failed == nullptr) {
    failed = &steps_->front();
    begin_prepare(*failed);
  }
  if (failed->exchange != nullptr) {
    if (!failed->exchange->response_first.seen()) failed->exchange->response_first = mark;
    failed->exchange->response_last = mark;
  }
  set_code(*failed, error);
  finish(*failed, {}, {});
  while (!idle() && steps_->front().kind != Step::Kind::sync) {
    Step& step = steps_->front();
    if (step.kind == Step::Kind::parse) statements_.erase(step.number);
    // Its Execute may come yet.
    if (step.kind == Step::Kind::bind) skipped_bound_ = step.statement;
    if (step.kind == Step::Kind::execute) skipped_bound_.reset();
    if (step.exchange != nullptr) {
      step.exchange->response_first = step.exchange->response_last = mark;
      finish(step, {}, kErrorAborted);
    }
    pop();
  }
  skip_to_sync_ = idle();
  chain_ = false;
}

// Parse or Describe by itself makes no span unless it fails: then it is all that the client did.
void PgConnection::begin_prepare(Step& step) noexcept {
  if (step.kind == Step::Kind::close || !begin(step)) return;
  add_request(*step.exchange, connection_, database_,
              step.statement ? &step.statement->query : nullptr);
  // A socket loop has gone on to other work since: whose this was cannot be told any more.
  const bool client = step.exchange->side == Side::client;
  if (client && connection_.process->runtime != Runtime::socket_loop) {
    sink_.request(*step.exchange);
  }
}

}  // namespace olly::postgresql
