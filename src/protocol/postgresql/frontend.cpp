// What clients send.
#include <algorithm>
#include <functional>

#include "protocol/postgresql/attributes.h"
#include "protocol/postgresql/connection.h"
#include "protocol/postgresql/message.h"

namespace olly::postgresql {
namespace {

bool begins_with(std::string_view text, std::string_view upper) noexcept {
  if (text.size() < upper.size()) return false;
  for (std::size_t i = 0; i < upper.size(); ++i) {
    const char c = text[i];
    if ((c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c) != upper[i]) return false;
  }
  return true;
}

// The text that a Query or Parse carries, up to its NUL. False: it goes on behind kMaxText.
bool text_of(ByteView body, std::string_view& out) noexcept {
  if (take_string(body, out)) {
    if (out.size() <= sql::kMaxText) return true;
  } else {
    out = as_text(body);
  }
  out = out.substr(0, sql::kMaxText);
  return false;
}

}  // namespace

ParseResult PgConnection::front(const Window& w) noexcept {
  switch (front_) {
    case Front::first:
      return first_message(w);
    case Front::answer:
      return {};
    case Front::lost:
      return search_front(w);
    case Front::over:
      return {ParseStatus::discard, w.bytes.size()};
    case Front::messages:
      break;
  }
  Header h;
  switch (parse_header(w.bytes, Sender::frontend, h)) {
    case Error::incomplete:
      return {};
    case Error::invalid:
      lose_front();
      return {ParseStatus::invalid, w.bytes.size()};
    case Error::none:
      break;
  }
  if (steps_ && steps_->size() >= kMaxSteps) return {ParseStatus::opaque};
  const ParseResult result = message(w, h);
  if (result.status == ParseStatus::frame) {
    overtake_at_ = 0;
    overtake_expired_ = false;
  }
  return result;
}

ParseResult PgConnection::first_message(const Window& w) noexcept {
  Startup first;
  switch (parse_first(w.bytes, first)) {
    case Error::incomplete:
      return {};
    case Error::invalid:
      return {ParseStatus::invalid, w.bytes.size()};
    case Error::none:
      break;
  }
  switch (first.kind) {
    case First::ssl:
    case First::gss:
      front_ = Front::answer;
      break;
    case First::cancel:
      front_ = Front::over;
      break;
    case First::startup:
      front_ = Front::messages;
      starting_ = true;
      database_ = first.database.substr(0, kMaxDatabase);
      break;
  }
  overtake_at_ = 0;
  return {ParseStatus::frame, first.size};
}

ParseResult PgConnection::message(const Window& w, const Header& h) noexcept {
  switch (h.type) {
    case 'Q':
      return query(w, h);
    case 'P':
      return parse_statement(w, h);
    case 'B':
      return bind(w, h);
    case 'D':
    case 'C':
      return describe_or_close(w, h);
    case 'E':
      return execute(w, h);
    case 'S':
      return sync(w, h);
    case 'F':
      return function(w, h);
    case 'X':
      front_ = Front::over;
      return take(w, h);
    case 'd':
    case 'c':
    case 'f': {
      const ParseResult result = take(w, h);
      mark_request(mark_of_last(w, result));
      return result;
    }
    default:
      // Flush; passwords, which nobody reads.
      return take(w, h);
  }
}

bool PgConnection::begin(Step& step) noexcept {
  const Side side = front_direction_ == Direction::recv ? Side::server : Side::client;
  if (connection_.role == Role::unknown) {
    connection_.role = side == Side::server ? Role::inbound : Role::outbound;
  }
  step.exchange = sink_.begin(connection_, side, step.position, step.mark);
  if (step.exchange == nullptr) return false;
  step.exchange->request_first = step.mark;
  step.exchange->request_last = step.mark;
  return true;
}

void PgConnection::announce(Step& step, const Window& w, const ParseResult& message) noexcept {
  step.exchange->request_last = mark_of_last(w, message);
  sink_.request(*step.exchange);
}

// The client asks for more when it has all it asked for: what it got was its own.
void PgConnection::go_on() noexcept {
  if (idle() && !held_.empty()) settle_trial(true);
}

ParseResult PgConnection::query(const Window& w, const Header& h) noexcept {
  ByteView body;
  if (!body_of(w, h, sql::kMaxText + 1, body)) return {};
  std::string_view text;
  const bool whole = text_of(body, text);
  sql::normalise(dialect(), text, whole, shared_.query);
  note_session(shared_.query);
  go_on();
  Step& step = push(Step::Kind::query, w);
  chain_ = false;
  const ParseResult result = take(w, h);
  if (begin(step)) {
    add_request(*step.exchange, connection_, database_, &shared_.query);
    announce(step, w, result);
  }
  return result;
}

// What a client does with its session's statements by SQL.
void PgConnection::note_session(const sql::Query& q) noexcept {
  if (statements_.empty()) return;
  const std::string_view summary = q.summary;
  if (q.statements == 1) {
    if (begins_with(summary, "DISCARD") && !begins_with(q.text, "DISCARD ALL")) return;
    if (!begins_with(summary, "DISCARD") && !begins_with(summary, "DEALLOCATE")) return;
  } else {
    bool any = false;
    for (std::size_t i = 0; i != std::string_view::npos && i < summary.size(); ++i) {
      any = any || begins_with(summary.substr(i), "DISCARD") ||
            begins_with(summary.substr(i), "DEALLOCATE");
    }
    if (!any) return;
  }
  // Which of them is not worth knowing better: who is forgotten has no text.
  statements_.clear();
  portals_.clear();
}

// The memory of the one before, when nothing else refers to it.
StatementPtr PgConnection::make_statement(std::string_view name) noexcept {
  StatementPtr old = statements_.find(name);
  statements_.erase(name);
  if (old && old.use_count() == 1) return old;
  return std::make_shared<Statement>();
}

// The exchange of an Execute begins with the messages that lead to it.
void PgConnection::note_chain(const Window& w) noexcept {
  if (chain_) return;
  chain_ = true;
  chain_position_ = w.position;
  chain_mark_ = w.mark_at(w.position);
}

ParseResult PgConnection::parse_statement(const Window& w, const Header& h) noexcept {
  ByteView body;
  if (!body_of(w, h, kMaxNames + sql::kMaxText + 1, body)) return {};
  go_on();
  note_chain(w);
  std::string_view name;
  std::string_view text;
  if (skip_to_sync_) {
    if (take_string(body, name)) {
      const bool whole = text_of(body, text);
      skipped_name_ = std::hash<std::string_view>{}(name);
      skipped_ = std::make_shared<Statement>();
      sql::normalise(dialect(), text, whole, skipped_->query);
    }
    return take(w, h);
  }
  Step& step = push(Step::Kind::parse, w);
  if (take_string(body, name) && name.size() < kMaxNames) {
    const bool whole = text_of(body, text);
    step.statement = make_statement(name);
    sql::normalise(dialect(), text, whole, step.statement->query);
    step.number = statements_.put(name, step.statement);
  }
  return take(w, h);
}

ParseResult PgConnection::bind(const Window& w, const Header& h) noexcept {
  ByteView body;
  if (!body_of(w, h, kMaxNames, body)) return {};
  go_on();
  note_chain(w);
  std::string_view portal;
  std::string_view name;
  if (skip_to_sync_) {
    if (take_string(body, portal) && take_string(body, name)) {
      const bool own = skipped_ && skipped_name_ == std::hash<std::string_view>{}(name);
      skipped_bound_ = own ? skipped_ : statements_.find(name);
    }
    return take(w, h);
  }
  Step& step = push(Step::Kind::bind, w);
  if (take_string(body, portal)) {
    if (take_string(body, name)) step.statement = statements_.find(name);
    portals_.put(portal, step.statement);
  } else {
    portals_.clear();
  }
  return take(w, h);
}

ParseResult PgConnection::describe_or_close(const Window& w, const Header& h) noexcept {
  ByteView body;
  if (!body_of(w, h, kMaxNames, body)) return {};
  if (body[0] != 'S' && body[0] != 'P') {
    lose_front();
    return {ParseStatus::invalid, w.bytes.size()};
  }
  go_on();
  if (h.type == 'D') note_chain(w);
  if (skip_to_sync_) return take(w, h);
  Step& step = push(h.type == 'D' ? Step::Kind::describe : Step::Kind::close, w);
  NameTable& table = body[0] == 'S' ? statements_ : portals_;
  body = body.subspan(1);
  std::string_view name;
  const bool known = take_string(body, name);
  if (h.type == 'D') {
    if (known) step.statement = table.find(name);
  } else if (known) {
    table.erase(name);
  } else {
    table.clear();
  }
  return take(w, h);
}

ParseResult PgConnection::execute(const Window& w, const Header& h) noexcept {
  ByteView body;
  if (!body_of(w, h, kMaxNames, body)) return {};
  std::string_view portal;
  StatementPtr statement;
  if (skip_to_sync_) {
    statement = std::move(skipped_bound_);
  } else if (take_string(body, portal)) {
    statement = portals_.find(portal);
  }
  go_on();
  Step& step = push(Step::Kind::execute, w);
  if (chain_) {
    step.position = chain_position_;
    step.mark = chain_mark_;
    chain_ = false;
  }
  const ParseResult result = take(w, h);
  if (begin(step)) {
    add_request(*step.exchange, connection_, database_, statement ? &statement->query : nullptr);
    announce(step, w, result);
  }
  if (skip_to_sync_) {
    // The server's error came before this; it will not say anything.
    finish(step, {}, kErrorAborted);
    steps_->pop_back();
    if (steps_->empty()) shared_.steps.give(std::move(steps_));
  } else if (statement) {
    note_session(statement->query);
  }
  return result;
}

ParseResult PgConnection::sync(const Window& w, const Header& h) noexcept {
  go_on();
  const ParseResult result = take(w, h);
  if (!chain_) mark_request(mark_of_last(w, result));
  push(Step::Kind::sync, w);
  chain_ = skip_to_sync_ = false;
  skipped_.reset();
  skipped_bound_.reset();
  return result;
}

ParseResult PgConnection::function(const Window& w, const Header& h) noexcept {
  go_on();
  Step& step = push(Step::Kind::function, w);
  chain_ = false;
  const ParseResult result = take(w, h);
  if (begin(step)) {
    add_function(*step.exchange, connection_, database_);
    announce(step, w, result);
  }
  return result;
}

}  // namespace olly::postgresql
