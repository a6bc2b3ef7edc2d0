// The client's side: login, commands, and the file of a LOCAL INFILE.
#include <algorithm>

#include "protocol/common/ending.h"
#include "protocol/mysql/connection.h"

namespace olly::mysql {
namespace {

// MariaDB: the statement that was prepared last (its PREPARE may be unanswered yet).
constexpr std::uint32_t kLastPrepared = 0xffffffff;

std::uint32_t statement_id(ByteView payload) noexcept {
  if (payload.size() < 5) return 0;
  return static_cast<std::uint32_t>(payload[1]) | static_cast<std::uint32_t>(payload[2]) << 8 |
         static_cast<std::uint32_t>(payload[3]) << 16 |
         static_cast<std::uint32_t>(payload[4]) << 24;
}

}  // namespace

MysqlConnection::Verdict MysqlConnection::on_request(const Packet& p, const Window& w) noexcept {
  const std::uint8_t sequence = p.header.sequence;
  switch (phase_) {
    case Phase::greeting:
      return Verdict::wait;
    case Phase::login:
      return on_login(p);
    case Phase::auth:
      // Credentials; a command can only have overtaken the server's OK.
      return sequence == 0 ? Verdict::wait : Verdict::ok;
    case Phase::commands:
      break;
  }
  if (infile_) {
    if (sequence != infile_sequence_) return Verdict::invalid;
    ++infile_sequence_;
    if (p.header.length == 0) infile_ = false;
    return Verdict::ok;
  }
  if (sequence == 0) return on_command(p, w);
  if (queue_empty()) return Verdict::invalid;
  const Slot& slot = queue_->front();
  if (slot.answer == Answer::login) {
    return slot.done || queue_->size() == 1 ? Verdict::ok : Verdict::invalid;
  }
  // The file that the server asks for may overtake its asking.
  return slot.answer == Answer::result ? Verdict::wait : Verdict::invalid;
}

MysqlConnection::Verdict MysqlConnection::on_login(const Packet& p) noexcept {
  Login login;
  if (p.header.sequence != (session_.logs_in ? 2 : 1)) return Verdict::invalid;
  if (parse_login(p.payload, p.header.length, session_.capabilities, login) != ParseError::none) {
    return Verdict::invalid;
  }
  if (login.ssl) {
    if (session_.logs_in) return Verdict::invalid;
    session_.logs_in = true;
    return Verdict::tls;
  }
  session_.logs_in = false;
  proven_ = true;
  session_.capabilities = login.capabilities;
  session_.capabilities_known = true;
  const auto known = [this](std::uint64_t flag) {
    return (session_.capabilities & flag) != 0 ? Known::yes : Known::no;
  };
  session_.deprecate_eof = known(capability::kDeprecateEof);
  session_.query_attributes = known(capability::kQueryAttributes);
  session_.database = login.database;
  session_.database_known = true;
  phase_ = Phase::auth;
  return Verdict::ok;
}

MysqlConnection::Verdict MysqlConnection::on_command(const Packet& p, const Window& w) noexcept {
  if (p.payload.empty() || !plausible_command(p.payload, p.header.length)) return Verdict::invalid;
  const Answer answer = answer_of(p.payload[0]);
  const auto command = static_cast<Command>(p.payload[0]);
  if (answer == Answer::stream) return Verdict::opaque;
  if (answer == Answer::none) {
    if (command == Command::stmt_close) session_.statements.erase(statement_id(p.payload));
    return Verdict::ok;
  }
  session_.pipelined |= !queue_empty();
  const bool pairable = in_order_ || (queue_empty() && session_.answered);
  if (!in_order_ && !queue_empty()) lose_order(kLostBytes, false);
  session_.answered = in_order_;
  if (!pairable && !proven_) return Verdict::ok;
  if (queue_ && queue_->size() >= kMaxPipeline) return Verdict::opaque;
  if (!queue_) queue_ = shared_.queues.take();
  Slot& slot = queue_->push();
  slot.command = command;
  slot.answer = answer;
  slot.probe = !in_order_;
  if (response_lane().searching) search_from_ = w.mark_at(p.position).time;
  request_open_ = true;
  Request request;
  request.command = command;
  request.system = session_.mariadb ? kMariadb : kMysql;
  read_text(slot, p, request);
  read_names(slot, p, request);
  if (proven_) begin_exchange(slot, p, w, request);
  if (!pairable) {
    // Behind a probe: its answer cannot be told from others'.
    finish(slot, kLostBytes, {});
    drop_front();
    request_open_ = false;
    return Verdict::ok;
  }
  if (queue_->size() == 1) enter_front();
  return Verdict::ok;
}

void MysqlConnection::begin_exchange(Slot& slot, const Packet& p, const Window& w,
                                     Request& request) noexcept {
  const Side side = session_.request_direction == Direction::recv ? Side::server : Side::client;
  const std::uint64_t at =
      unpackers_ ? unpacker(session_.request_direction).place(p.position) : p.position;
  slot.exchange = sink_.begin(connection_, side, at, w.mark_at(p.position));
  Exchange* x = slot.exchange;
  if (x == nullptr) return;
  x->request_first = w.mark_at(p.position);
  x->request_last = w.mark_at(p.position + kHeaderSize + p.payload.size() - 1);
  add_request(*x, connection_, request);
  sink_.request(*x);
}

// The statement's text: the command's own, or what its id stands for. Views live as long as
// shared_.query and the slot.
void MysqlConnection::read_text(Slot& slot, const Packet& p, Request& request) noexcept {
  if (slot.command == Command::stmt_execute || slot.command == Command::stmt_bulk_execute ||
      slot.command == Command::stmt_fetch || slot.command == Command::stmt_reset) {
    const std::uint32_t id = statement_id(p.payload);
    slot.statement = id == kLastPrepared ? session_.last_prepared : session_.statements.find(id);
    if (!slot.statement) return;
    request.text = slot.statement->text;
    request.summary = slot.statement->summary;
    return;
  }
  if (slot.command != Command::query && slot.command != Command::stmt_prepare) return;
  std::size_t at = 1;
  if (slot.command == Command::query && session_.query_attributes != Known::no) {
    const bool has = session_.query_attributes == Known::yes ||
                     (p.payload.size() > 2 && p.payload[1] < 0x20 && p.payload[2] == 1);
    if (has) {
      const std::optional<std::size_t> found = query_text_at(p.payload);
      if (!found) {
        slot.unclear = true;
        return;
      }
      at = *found;
    }
  }
  const std::string_view raw = as_text(p.payload.subspan(std::min(at, p.payload.size())));
  const bool whole = p.payload.size() == p.header.length && p.header.length != kMaxPacket;
  sql::Query& query = shared_.query;
  sql::normalise(session_.no_backslash ? sql::Dialect::mysql_no_backslash : sql::Dialect::mysql,
                 raw, whole, query);
  request.text = query.text;
  request.summary = query.summary;
  if (slot.command == Command::stmt_prepare) {
    slot.statement = shared_.statements.get(query.text, query.summary);
    session_.last_prepared = slot.statement;
    return;
  }
  request.statements = query.statements;
  const DatabaseEffect effect = database_effect(raw);
  slot.unclear = effect.unclear;
  slot.unclear_if_several = effect.if_several || !whole;
  slot.selects = !effect.database.empty();
  slot.database = effect.database;
}

// The database that a command names.
void MysqlConnection::read_names(Slot& slot, const Packet& p, Request& request) noexcept {
  switch (slot.command) {
    case Command::init_db:
      slot.selects = true;
      [[fallthrough]];
    case Command::create_db:
    case Command::drop_db:
      slot.database = as_text(p.payload.subspan(1));
      slot.unclear = slot.command == Command::drop_db;
      request.target = slot.database;
      break;
    case Command::change_user: {
      std::string_view name;
      slot.unclear =
          parse_change_user(p.payload, session_.capabilities, name) != ParseError::none ||
          !session_.capabilities_known;
      slot.selects = !slot.unclear;
      slot.database = name;
      break;
    }
    default:
      break;
  }
}

// All before it is answered: what they did to the current database is known.
void MysqlConnection::enter_front() noexcept {
  if (queue_empty()) return;
  Slot& slot = queue_->front();
  if (slot.exchange == nullptr) return;
  const bool own = slot.answer == Answer::simple && !slot.database.empty();
  if (own) {
    add_namespace(*slot.exchange, slot.database);
  } else if (session_.database_known && !session_.database.empty()) {
    add_namespace(*slot.exchange, session_.database);
  }
}

}  // namespace olly::mysql
