// The server's side: greeting, authentication, and answers up to their last packet.
#include <utility>

#include "protocol/common/ending.h"
#include "protocol/mysql/connection.h"

namespace olly::mysql {

MysqlConnection::Verdict MysqlConnection::on_response(const Packet& p, const Window& w) noexcept {
  switch (phase_) {
    case Phase::greeting:
      return on_greeting(p);
    case Phase::login:
      // Refused at once, or the greeting's answer was overtaken.
      return !p.payload.empty() && p.payload[0] == 0xff ? Verdict::ok : Verdict::wait;
    case Phase::auth:
      return on_auth(p);
    case Phase::commands:
      break;
  }
  if (trailing_ && trailing_eof(p)) return Verdict::ok;
  if (queue_empty()) return on_unsolicited(p, w);
  Slot& slot = queue_->front();
  const bool error = !p.payload.empty() && p.payload[0] == 0xff;
  if (!slot.done && !error) return Verdict::wait;
  const bool any_sequence = slot.answer == Answer::login;
  const std::uint8_t expected = stage_ == Stage::infile ? infile_sequence_
                                : begun_                ? answer_sequence_
                                                        : slot.next_sequence;
  if (stage_ == Stage::infile && infile_ && !error) return Verdict::wait;
  if (p.header.sequence != expected && !any_sequence) return Verdict::invalid;
  const Verdict v = on_stage(slot, p);
  if (v != Verdict::ok) return v;
  answer_sequence_ = static_cast<std::uint8_t>(p.header.sequence + 1);
  if (!begun_ && slot.exchange != nullptr) {
    slot.exchange->response_first = w.mark_at(p.position);
    slot.exchange->response_last = slot.exchange->response_first;
  }
  begun_ = true;
  return Verdict::ok;
}

MysqlConnection::Verdict MysqlConnection::on_greeting(const Packet& p) noexcept {
  Greeting greeting;
  if (p.header.sequence != 0 ||
      parse_greeting(p.payload, p.header.length, greeting) != ParseError::none) {
    return Verdict::invalid;
  }
  session_.capabilities = greeting.capabilities;
  session_.mariadb = greeting.mariadb;
  learn_status(greeting.status);
  phase_ = Phase::login;
  return Verdict::ok;
}

MysqlConnection::Verdict MysqlConnection::on_auth(const Packet& p) noexcept {
  // Plugins' own packets begin with other bytes, or the server puts 0x01 in front of them.
  if (p.payload.empty() || p.payload[0] != 0x00) return Verdict::ok;
  phase_ = Phase::commands;
  Ok ok;
  if (parse_ok(p.payload, session_track(), ok) == ParseError::none) learn(ok);
  return Verdict::ok;
}

// Nothing is asked. A server may say why it closes the connection; else the command was overtaken.
MysqlConnection::Verdict MysqlConnection::on_unsolicited(const Packet& p,
                                                         const Window& w) noexcept {
  const bool error = !p.payload.empty() && p.payload[0] == 0xff;
  if (error && p.header.sequence != 1) return Verdict::ok;
  if (!overdue_) {
    const Nanos now = w.last_mark().time;
    if (wake_at_ == 0) wake_at_ = now + kOvertakeTime;
    if (now < wake_at_) return Verdict::wait;
  }
  overdue_ = false;
  wake_at_ = 0;
  return error ? Verdict::ok : Verdict::invalid;
}

// With a form of EOF that is not known, definitions at an answer's end may have one behind them.
bool MysqlConnection::trailing_eof(const Packet& p) noexcept {
  trailing_ = false;
  const bool eof = is_eof(p.payload, p.header.length) && p.header.sequence == answer_sequence_;
  session_.deprecate_eof = eof ? Known::no : Known::yes;
  return eof;
}

MysqlConnection::Verdict MysqlConnection::on_stage(Slot& slot, const Packet& p) noexcept {
  wake_at_ = 0;
  overdue_ = false;
  if (p.payload.empty()) return Verdict::invalid;
  if (p.payload[0] == 0xff) return on_error(slot, p);
  switch (stage_) {
    case Stage::first:
      return on_first(slot, p);
    case Stage::infile:
      return p.payload[0] == 0x00 ? on_ok(slot, p) : Verdict::invalid;
    case Stage::definitions:
      if (--definitions_ == 0) {
        stage_ = session_.deprecate_eof == Known::yes ? Stage::rows : Stage::definitions_end;
      }
      return Verdict::ok;
    case Stage::definitions_end:
      return on_definitions_end(slot, p);
    case Stage::rows:
      return on_row(slot, p);
    case Stage::parameters:
    case Stage::parameters_end:
    case Stage::columns:
    case Stage::columns_end:
      return on_prepare_definitions(slot, p);
  }
  return Verdict::invalid;
}

MysqlConnection::Verdict MysqlConnection::on_error(Slot& slot, const Packet& p) noexcept {
  Err err;
  if (parse_err(p.payload, err) != ParseError::none) return Verdict::invalid;
  if (err.progress) {
    if (stage_ == Stage::infile) stage_ = Stage::first;  // the file is whole: the OK follows
    return Verdict::ok;
  }
  slot.error = err.number;
  ended_ = true;
  return Verdict::ok;
}

MysqlConnection::Verdict MysqlConnection::on_ok(Slot& slot, const Packet& p) noexcept {
  Ok ok;
  if (parse_ok(p.payload, session_track(), ok) != ParseError::none) return Verdict::invalid;
  slot.has_ok = true;
  slot.affected += ok.affected_rows;
  learn(ok);
  return set_ends(slot, ok.status);
}

// A result set, or an OK in its place, is over.
MysqlConnection::Verdict MysqlConnection::set_ends(Slot& slot, std::uint16_t status) noexcept {
  stage_ = Stage::first;
  ended_ = (status & status_flag::kMoreResults) == 0;
  if (!ended_) slot.several = true;
  return Verdict::ok;
}

MysqlConnection::Verdict MysqlConnection::on_first(Slot& slot, const Packet& p) noexcept {
  const std::uint8_t first = p.payload[0];
  switch (slot.answer) {
    case Answer::simple:
      if (first == 0x00) return on_ok(slot, p);
      if (!is_eof(p.payload, p.header.length)) return on_ok(slot, p);
      ended_ = true;
      return Verdict::ok;
    case Answer::text:
      ended_ = true;
      return Verdict::ok;
    case Answer::login:
      return first == 0x00 ? on_ok(slot, p) : Verdict::ok;
    case Answer::fields:
      ended_ = first == 0xfe;
      return Verdict::ok;
    case Answer::prepare:
      return on_prepare_ok(slot, p);
    case Answer::rows:
      slot.has_set = true;
      stage_ = Stage::rows;
      return on_row(slot, p);
    case Answer::result:
      return on_result_head(slot, p);
    default:
      return Verdict::invalid;
  }
}

MysqlConnection::Verdict MysqlConnection::on_result_head(Slot& slot, const Packet& p) noexcept {
  if (p.payload[0] == 0x00) return on_ok(slot, p);
  if (p.payload[0] == 0xfb) {
    stage_ = Stage::infile;
    infile_ = true;
    infile_sequence_ = static_cast<std::uint8_t>(p.header.sequence + 1);
    return Verdict::ok;
  }
  ColumnCount count;
  if (parse_column_count(p.payload, p.header.length, count) != ParseError::none) {
    return Verdict::invalid;
  }
  slot.has_set = true;
  definitions_ = static_cast<std::uint32_t>(count.columns);
  stage_ = count.definitions                      ? Stage::definitions
           : session_.deprecate_eof == Known::yes ? Stage::rows
                                                  : Stage::definitions_end;
  return Verdict::ok;
}

MysqlConnection::Verdict MysqlConnection::on_definitions_end(Slot& slot, const Packet& p) noexcept {
  if (!is_eof(p.payload, p.header.length)) {
    if (session_.deprecate_eof == Known::no) return Verdict::invalid;
    session_.deprecate_eof = Known::yes;
    stage_ = Stage::rows;
    return on_row(slot, p);
  }
  session_.deprecate_eof = Known::no;
  const std::uint16_t status = eof_status(p.payload);
  learn_status(status);
  // The rows of a cursor are fetched.
  if ((status & status_flag::kCursorExists) != 0) return set_ends(slot, status);
  stage_ = Stage::rows;
  return Verdict::ok;
}

MysqlConnection::Verdict MysqlConnection::on_row(Slot& slot, const Packet& p) noexcept {
  const bool may_end = p.payload[0] == 0xfe && p.header.length < kMaxPacket;
  if (!may_end) {
    ++slot.rows;
    return Verdict::ok;
  }
  if (is_eof(p.payload, p.header.length)) {
    learn_status(eof_status(p.payload));
    return set_ends(slot, eof_status(p.payload));
  }
  Ok ok;
  if (parse_ok(p.payload, session_track(), ok) != ParseError::none) return Verdict::invalid;
  learn(ok);
  return set_ends(slot, ok.status);
}

MysqlConnection::Verdict MysqlConnection::on_prepare_ok(Slot& slot, const Packet& p) noexcept {
  PrepareOk ok;
  if (parse_prepare_ok(p.payload, p.header.length, ok) != ParseError::none) {
    return Verdict::invalid;
  }
  slot.prepared = true;
  slot.statement_id = ok.statement;
  prepare_columns_ = ok.definitions ? ok.columns : 0;
  definitions_ = ok.definitions ? ok.parameters : 0;
  stage_ = Stage::parameters;
  if (definitions_ == 0) next_prepare_stage();
  return Verdict::ok;
}

// Of the two lists those that are empty are not there, and neither is their EOF.
void MysqlConnection::next_prepare_stage() noexcept {
  const bool columns_next = stage_ == Stage::parameters || stage_ == Stage::parameters_end;
  if (columns_next && prepare_columns_ > 0) {
    stage_ = Stage::columns;
    definitions_ = prepare_columns_;
    return;
  }
  stage_ = Stage::first;
  ended_ = true;
}

MysqlConnection::Verdict MysqlConnection::on_prepare_definitions(Slot&, const Packet& p) noexcept {
  const bool end = stage_ == Stage::parameters_end || stage_ == Stage::columns_end;
  if (end && is_eof(p.payload, p.header.length)) {
    session_.deprecate_eof = Known::no;
    next_prepare_stage();
    return Verdict::ok;
  }
  if (end) {
    if (session_.deprecate_eof == Known::no) return Verdict::invalid;
    session_.deprecate_eof = Known::yes;
    next_prepare_stage();
    if (ended_) return Verdict::invalid;
  }
  if (--definitions_ > 0) return Verdict::ok;
  if (session_.deprecate_eof == Known::yes) {
    next_prepare_stage();
    return Verdict::ok;
  }
  const bool last = stage_ == Stage::columns || prepare_columns_ == 0;
  if (session_.deprecate_eof == Known::unknown && last) {
    next_prepare_stage();
    trailing_ = true;
    return Verdict::ok;
  }
  stage_ = stage_ == Stage::parameters ? Stage::parameters_end : Stage::columns_end;
  return Verdict::ok;
}

// Every OK and EOF says how the session stands.
void MysqlConnection::learn_status(std::uint16_t status) noexcept {
  session_.no_backslash = (status & status_flag::kNoBackslashEscapes) != 0;
}

void MysqlConnection::learn(const Ok& ok) noexcept {
  learn_status(ok.status);
  if (ok.schema_unclear) forget_database();
  if (!ok.schema_changed) return;
  session_.database = ok.schema;
  session_.database_known = true;
}

// The answer's last byte has passed.
void MysqlConnection::complete() noexcept {
  ended_ = begun_ = false;
  stage_ = Stage::first;
  if (queue_empty()) return;
  Slot& slot = queue_->front();
  apply_effects(slot);
  if (slot.probe) {
    proven_ = in_order_ = true;
    session_.invalid = 0;
  }
  finish(slot, {}, {});
  // An error may come before its command has passed.
  if (queue_->size() == 1) request_open_ = false;
  drop_front();
  enter_front();
}

void MysqlConnection::apply_effects(const Slot& slot) noexcept {
  // Of several statements those before the one that failed have had their effect.
  const bool unclear = slot.unclear || (slot.unclear_if_several && slot.several);
  if (unclear && (slot.error == 0 || slot.several) && !session_track()) forget_database();
  if (slot.error != 0) return;
  if (slot.command == Command::reset_connection || slot.answer == Answer::login) {
    session_.statements.clear();
    session_.last_prepared.reset();
  }
  if (slot.prepared && slot.statement) session_.statements.put(slot.statement_id, slot.statement);
  if (slot.selects) {
    session_.database = slot.database;
    session_.database_known = true;
  }
}

}  // namespace olly::mysql
