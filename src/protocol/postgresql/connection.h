// One PostgreSQL connection: framing of both directions and the pairing of the backend's messages
// with the frontend's (PostgreSQL documentation, "Message Flow").
//
// Every frontend message that asks for something is a Step in a queue; the backend answers in
// order. A simple Query and an Execute are exchanges. The backend's first error up to a Sync makes
// it skip what is left before that Sync: those exchanges end as "pipeline_aborted", whether their
// messages came before or after the error.
//
// Where bytes were lost, and on a connection met in its middle, nothing is paired until a boundary
// is seen: a ReadyForQuery at the end of a call, then a frontend message at the beginning of one
// (which is enough where one turn only was open, and its answer lost bytes).
// The first exchanges behind it are on trial (an older turn could still be under way): they are
// believed when the client goes on, or nothing comes for 100 ms, and withdrawn when the backend
// goes on without having been asked.
//
// frontend.cpp reads what clients send, backend.cpp what servers send.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "protocol/common/rest_store.h"
#include "protocol/common/slot_queue.h"
#include "protocol/postgresql/parse.h"
#include "protocol/postgresql/statements.h"
#include "protocol/protocol.h"

namespace olly::postgresql {

// Unanswered messages of one connection; past that it is given up (opaque).
inline constexpr std::size_t kMaxSteps = 4096;
inline constexpr std::size_t kMaxStatements = 256;
inline constexpr std::size_t kMaxPortals = 64;
inline constexpr std::size_t kMaxStatementBytes = 256 * 1024;
inline constexpr std::size_t kMaxDatabase = 63;  // NAMEDATALEN
// Names of statements and portals longer than what this leaves for them are not known.
inline constexpr std::size_t kMaxNames = 512;
// Calls without a boundary before a connection met in its middle is taken for something else.
inline constexpr int kMaxUnsynchronised = 64;
// How long an answer that overtook its request waits for it: threads stamp after they have moved,
// and may lose their CPU in between (as long as the stitcher settles; nothing else comes unasked).
inline constexpr Nanos kOvertakeTime = 50 * kMillisecond;
inline constexpr Nanos kTrialTime = 100 * kMillisecond;

// error.type of what the server skipped behind an error.
inline constexpr std::string_view kErrorAborted = "pipeline_aborted";

struct Step {
  enum class Kind : std::uint8_t { query, parse, bind, describe, execute, close, sync, function };
  Kind kind = Kind::query;
  bool rows_known = false;  // there was a result, or a row of one
  Exchange* exchange = nullptr;
  StatementPtr statement;      // parse, bind, describe: what an error is about
  std::uint32_t number = 0;    // parse: its entry in the table
  std::array<char, 5> code{};  // SQLSTATE of its first error; code[0] 0: none
  std::int64_t rows = 0;
  std::uint64_t position = 0;
  IoMark mark;  // of its first byte
};
using Steps = SlotQueue<Step>;

// Of a connection between two turns: what its parser goes on with.
struct Rested {
  std::string database;
  NameTable statements;
  NameTable portals;
  Direction front_direction = Direction::recv;
  bool backslashes = false;
  bool synchronised = false;
  std::size_t bytes() const noexcept;
};

// What all connections share: they run on one thread.
struct Shared {
  QueuePool<Step> steps;
  RestStore<Rested> rested;
  sql::Query query;  // of the latest Query message: keeps its memory
};

class PgConnection final : public ProtocolParser {
 public:
  PgConnection(Connection& connection, ExchangeSink& sink, Shared& shared, bool lost) noexcept;
  // As one that rested so.
  PgConnection(Connection& connection, ExchangeSink& sink, Shared& shared,
               Rested&& rested) noexcept;
  ~PgConnection() override;

  ParseResult parse(Direction direction, const Window& window) noexcept override;
  void skipped(Direction direction, std::uint64_t n, const IoMark& mark) noexcept override;
  void gap(Direction direction, std::uint64_t position, std::uint64_t length) noexcept override;
  void eof(Direction direction, const IoMark& mark) noexcept override;
  void timeout(Nanos now) noexcept override;
  void end(EndReason reason, Nanos time, std::uint32_t error) noexcept override;
  Exchange* current(Direction direction) const noexcept override;
  Nanos wake_at() const noexcept override;
  void tick(Nanos now) noexcept override;
  std::optional<std::uint32_t> rest() noexcept override;
  std::size_t memory() const noexcept override;

 private:
  enum class Front : std::uint8_t {
    first,   // the first message, which has no type
    answer,  // SSLRequest or GSSENCRequest was sent: waits for the byte that answers
    messages,
    lost,  // looks for a boundary
    over,  // nothing will follow (Terminate, CancelRequest)
  };
  enum class Back : std::uint8_t { messages, lost };
  // An exchange on trial that is complete.
  struct Held {
    Exchange* exchange = nullptr;
    std::array<char, 5> code{};
    std::int64_t rows = -1;
  };

  bool is_front(Direction d) const noexcept { return d == front_direction_; }
  bool idle() const noexcept { return !steps_ || steps_->empty(); }
  Step& push(Step::Kind kind, const Window& w) noexcept;
  void pop() noexcept;

  // connection.cpp
  bool learn_direction(Direction d, const Window& w) noexcept;
  ParseResult search_front(const Window& w) noexcept;
  ParseResult search_back(const Window& w) noexcept;
  void lose_front() noexcept;
  void lose_back() noexcept;
  void lose_all() noexcept;
  void end_broken() noexcept;
  void finish(Step& step, std::string_view incomplete, std::string_view error) noexcept;
  void finish_all(std::string_view incomplete, std::string_view error) noexcept;
  void settle_trial(bool believed) noexcept;
  void mark_request(const IoMark& mark) noexcept;
  void mark_response(const IoMark& mark) noexcept;

  // frontend.cpp
  ParseResult front(const Window& w) noexcept;
  ParseResult first_message(const Window& w) noexcept;
  ParseResult query(const Window& w, const Header& h) noexcept;
  ParseResult message(const Window& w, const Header& h) noexcept;
  ParseResult parse_statement(const Window& w, const Header& h) noexcept;
  ParseResult bind(const Window& w, const Header& h) noexcept;
  ParseResult describe_or_close(const Window& w, const Header& h) noexcept;
  ParseResult execute(const Window& w, const Header& h) noexcept;
  ParseResult function(const Window& w, const Header& h) noexcept;
  ParseResult sync(const Window& w, const Header& h) noexcept;
  bool begin(Step& step) noexcept;
  void announce(Step& step, const Window& w, const ParseResult& message) noexcept;
  void go_on() noexcept;
  void note_chain(const Window& w) noexcept;
  void note_session(const sql::Query& query) noexcept;
  StatementPtr make_statement(std::string_view name) noexcept;
  sql::Dialect dialect() const noexcept {
    return backslashes_ ? sql::Dialect::postgresql_backslash : sql::Dialect::postgresql;
  }

  // backend.cpp
  ParseResult back(const Window& w) noexcept;
  ParseResult rows(const Window& w) noexcept;
  ParseResult overtook(const Window& w) noexcept;
  ParseResult asynchronous(const Window& w, const Header& h) noexcept;
  ParseResult answer_to_ssl(const Window& w) noexcept;
  ParseResult starting(const Window& w, const Header& h) noexcept;
  ParseResult error(const Window& w, const Header& h) noexcept;
  bool answers(char type, ByteView body, const IoMark& mark) noexcept;
  bool answers_query(char type, ByteView body, Step& step, const IoMark& mark) noexcept;
  bool answers_execute(char type, ByteView body, Step& step, const IoMark& mark) noexcept;
  void ready(char status, const IoMark& mark) noexcept;
  void failed(const ErrorFields& error, const IoMark& mark) noexcept;
  void fail_turn(const ErrorFields& error, const IoMark& mark) noexcept;
  void begin_prepare(Step& step) noexcept;
  static void set_code(Step& step, const ErrorFields& error) noexcept;

  Connection& connection_;
  ExchangeSink& sink_;
  Shared& shared_;
  std::unique_ptr<Steps> steps_;
  NameTable statements_{kMaxStatements, kMaxStatementBytes};
  NameTable portals_{kMaxPortals, kMaxStatementBytes};
  std::vector<Held> held_;
  std::string database_;

  Nanos overtake_at_ = 0;  // until when the backend's message waits for its request
  Nanos settle_at_ = 0;    // when exchanges on trial are believed, or a broken one is over
  std::uint64_t chain_position_ = 0;  // where the messages began that lead to the next Execute
  IoMark chain_mark_;
  std::array<std::uint8_t, 6> tail_{};  // the backend's last bytes
  int unsynchronised_ = 0;
  Direction front_direction_ = Direction::recv;
  Front front_ = Front::first;
  Back back_ = Back::messages;
  bool direction_known_ = false;
  bool starting_ = false;  // until the first ReadyForQuery
  bool chain_ = false;
  bool skip_to_sync_ = false;  // the server does: an error came before the Sync was seen
  // Of a statement that the server skips: what its own Parse and Bind say, for its span alone.
  StatementPtr skipped_, skipped_bound_;
  std::size_t skipped_name_ = 0;
  bool backslashes_ = false;  // standard_conforming_strings is off
  bool boundary_ = false;     // the backend's last bytes were a ReadyForQuery
  bool broken_ = false;       // the answer under way lost bytes
  bool trial_ = false;
  bool synchronised_ = false;  // once
  bool overtake_expired_ = false;
};

}  // namespace olly::postgresql
