// One connection of MySQL's protocol: packets in both directions, and the pairing of responses with
// commands.
//
// Pairing: a server answers commands in their order, and the first packet of an answer has the
// sequence id that follows the command's. An answer is paired with the oldest unanswered command
// whose id fits; anything else is a loss. After a loss everything open ends as incomplete. Then
// (and on a connection met in its middle) comes a probe: a command at the beginning of a call, with
// nothing else outstanding, whose answer is read to its end. It gets no response; from the next
// command on all is as before. A client that has never sent a command ahead of an answer needs no
// probe when it was an answer that lost bytes: what it says next comes after that answer. A
// connection met in its middle, of which nothing is proven yet, has no span for its probe at all.
//
// What a met connection negotiated is not known: which of the two EOF forms it uses shows in the
// first answer (5 bytes or at least 7).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "protocol/common/rest_store.h"
#include "protocol/common/slot_queue.h"
#include "protocol/mysql/attributes.h"
#include "protocol/mysql/parse.h"
#include "protocol/mysql/statements.h"
#include "protocol/mysql/unpacker.h"
#include "protocol/protocol.h"
#include "protocol/sql/sql.h"

namespace olly::mysql {

// Unanswered commands of one connection; past that the connection is given up (opaque).
inline constexpr std::size_t kMaxPipeline = 1024;
// Bytes of a statement that are looked at; the rest of a longer one is skipped.
inline constexpr std::uint32_t kMaxRaw = 4096;
// Bytes that are looked at of OK packets (session state stands at their end) and of all others.
inline constexpr std::uint32_t kMaxOk = 1024;
inline constexpr std::uint32_t kMaxOther = 512;
// Losses of order that no lost byte explains, before the connection is given up.
inline constexpr int kMaxInvalid = 8;
// How long an answer that overtook its command waits for it (threads stamp after they have moved).
inline constexpr Nanos kOvertakeTime = 5 * kMillisecond;

// A command and what is known of its answer.
struct Slot {
  Exchange* exchange = nullptr;  // null: no span (budget, timed out, probe), but it is answered
  StatementPtr statement;        // PREPARE: what its id will stand for
  std::string database;          // that it selects
  std::uint64_t rows = 0;
  std::uint64_t affected = 0;
  std::uint32_t statement_id = 0;  // PREPARE: from its answer
  Command command = Command::query;
  Answer answer = Answer::result;
  std::uint16_t error = 0;
  std::uint8_t next_sequence = 1;  // of its answer
  bool done = false;               // its last byte was seen
  bool has_set = false;            // there was a result set
  bool has_ok = false;
  bool prepared = false;
  bool selects = false;             // it changes the current database to `database`
  bool unclear = false;             // it may change the current database
  bool unclear_if_several = false;  // it may, if it is several statements
  bool several = false;             // it has several results
  bool probe = false;
};

using Queue = SlotQueue<Slot>;

// What is known of a session.
enum class Known : std::uint8_t { unknown, no, yes };
struct Session {
  Statements statements;
  StatementPtr last_prepared;  // what MariaDB's statement id -1 stands for
  std::string database;
  std::uint64_t capabilities = 0;
  Known deprecate_eof = Known::unknown;
  Known query_attributes = Known::unknown;
  Direction request_direction = Direction::recv;
  std::uint8_t invalid = 0;
  bool met = false;      // not seen from the start: there is no greeting
  bool logs_in = false;  // behind an SSLRequest, the login is to come in TLS
  bool capabilities_known = false;
  bool mariadb = false;
  bool no_backslash = false;  // NO_BACKSLASH_ESCAPES: where strings end
  bool database_known = false;
  bool pipelined = false;  // the client has sent a command before the answer to another
  bool answered = true;    // bytes came from the server since the last command
  std::size_t bytes() const noexcept;
};

// What all connections share: they run on one thread.
struct Shared {
  QueuePool<Slot> queues;
  sql::Query query;
  StatementCache statements;
  UnpackerPool unpackers;
  RestStore<Session> rested;
};

class MysqlConnection final : public ProtocolParser {
 public:
  MysqlConnection(Connection& connection, ExchangeSink& sink, Shared& shared,
                  std::array<bool, 2> from_start, bool lost) noexcept;
  // As one that rested so.
  MysqlConnection(Connection& connection, ExchangeSink& sink, Shared& shared,
                  Session&& session) noexcept;
  ~MysqlConnection() override;

  ParseResult parse(Direction direction, const Window& window) noexcept override;
  void skipped(Direction direction, std::uint64_t n, const IoMark& mark) noexcept override;
  void gap(Direction direction, std::uint64_t position, std::uint64_t length) noexcept override;
  void eof(Direction direction, const IoMark& mark) noexcept override;
  void timeout(Nanos now) noexcept override;
  void end(EndReason reason, Nanos time, std::uint32_t error) noexcept override;
  Exchange* current(Direction direction) const noexcept override;
  Nanos wake_at() const noexcept override { return wake_at_; }
  void tick(Nanos now) noexcept override;
  std::optional<std::uint32_t> rest() noexcept override;
  std::size_t memory() const noexcept override;

 private:
  enum class Phase : std::uint8_t { greeting, login, auth, commands };
  // Where the next packet of an answer stands.
  enum class Stage : std::uint8_t {
    first,
    definitions,  // of a result set's columns
    definitions_end,
    rows,
    parameters,  // of a prepared statement
    parameters_end,
    columns,
    columns_end,
    infile,  // the client sends a file
  };
  enum class Verdict : std::uint8_t {
    ok,
    wait,     // for the other direction
    invalid,  // order is lost
    opaque,   // the packet was the last that can be read
    tls,      // behind the packet comes TLS
  };
  struct Lane {
    bool searching = false;  // for a packet's start
    bool skipping = false;   // a packet's rest passes
    bool continued = false;  // the next packet continues the one before
    std::uint8_t sequence = 0;
  };
  // Of a connection with compression, by direction.
  struct Unpackers {
    explicit Unpackers(UnpackerPool& pool) noexcept : lanes{Unpacker(pool), Unpacker(pool)} {}
    std::array<Unpacker, 2> lanes;
  };
  struct Packet {
    PacketHeader header;
    ByteView payload;  // its beginning
    std::uint64_t position = 0;
  };

  bool is_request(Direction d) const noexcept { return d == session_.request_direction; }
  Lane& lane(Direction d) noexcept { return lanes_[static_cast<std::size_t>(d)]; }
  Lane& request_lane() noexcept { return lane(session_.request_direction); }
  Lane& response_lane() noexcept { return lane(opposite(session_.request_direction)); }
  Unpacker& unpacker(Direction d) noexcept {
    return unpackers_->lanes[static_cast<std::size_t>(d)];
  }
  bool queue_empty() const noexcept { return !queue_ || queue_->empty(); }
  // Packets are inside others from the end of the login on.
  bool compressed() const noexcept {
    return session_.capabilities_known &&
           (session_.capabilities & (capability::kCompress | capability::kZstd)) != 0;
  }
  bool session_track() const noexcept {
    return session_.capabilities_known && (session_.capabilities & capability::kSessionTrack) != 0;
  }

  bool settle_direction(Direction d, const Window& w) noexcept;
  ParseResult parse_packets(Direction d, const Window& w) noexcept;
  ParseResult packets(Direction d, const Window& w) noexcept;
  ParseResult unpack(Direction d, const Window& w) noexcept;
  ParseResult read_content(Direction d, Unpacker& u, const Window& w) noexcept;
  void begin_commands() noexcept;
  std::uint32_t wanted(Direction d, std::uint32_t length, ByteView payload) const noexcept;
  Verdict on_packet(Direction d, const Packet& p, const Window& w) noexcept;
  bool on_continuation(Direction d, std::uint8_t sequence) noexcept;
  void packet_done(Direction d) noexcept;
  void mark_progress(Direction d, const IoMark& mark) noexcept;
  ParseResult search(Direction d, const Window& w) noexcept;
  bool starts_here(Direction d, ByteView bytes, bool& more) const noexcept;
  bool fits_answer(ByteView payload, std::uint32_t length) const noexcept;
  ParseResult on_invalid() noexcept;

  // requests.cpp
  Verdict on_request(const Packet& p, const Window& w) noexcept;
  Verdict on_login(const Packet& p) noexcept;
  Verdict on_command(const Packet& p, const Window& w) noexcept;
  void begin_exchange(Slot& slot, const Packet& p, const Window& w, Request& request) noexcept;
  void read_text(Slot& slot, const Packet& p, Request& request) noexcept;
  void read_names(Slot& slot, const Packet& p, Request& request) noexcept;
  void enter_front() noexcept;

  // responses.cpp
  Verdict on_response(const Packet& p, const Window& w) noexcept;
  Verdict on_greeting(const Packet& p) noexcept;
  Verdict on_auth(const Packet& p) noexcept;
  Verdict on_unsolicited(const Packet& p, const Window& w) noexcept;
  Verdict on_stage(Slot& slot, const Packet& p) noexcept;
  Verdict on_first(Slot& slot, const Packet& p) noexcept;
  Verdict on_result_head(Slot& slot, const Packet& p) noexcept;
  Verdict on_prepare_ok(Slot& slot, const Packet& p) noexcept;
  Verdict on_definitions_end(Slot& slot, const Packet& p) noexcept;
  Verdict on_row(Slot& slot, const Packet& p) noexcept;
  Verdict on_prepare_definitions(Slot& slot, const Packet& p) noexcept;
  Verdict on_error(Slot& slot, const Packet& p) noexcept;
  Verdict on_ok(Slot& slot, const Packet& p) noexcept;
  Verdict set_ends(Slot& slot, std::uint16_t status) noexcept;
  void next_prepare_stage() noexcept;
  bool trailing_eof(const Packet& p) noexcept;
  void learn(const Ok& ok) noexcept;
  void learn_status(std::uint16_t status) noexcept;
  void complete() noexcept;
  void apply_effects(const Slot& slot) noexcept;

  void lose_order(std::string_view incomplete, bool requests_too) noexcept;
  void forget_database() noexcept;
  void finish(Slot& slot, std::string_view incomplete, std::string_view error) noexcept;
  void finish_all(std::string_view incomplete, std::string_view error) noexcept;
  void drop_front() noexcept;

  Connection& connection_;
  ExchangeSink& sink_;
  Shared& shared_;
  std::unique_ptr<Queue> queue_;
  std::unique_ptr<Unpackers> unpackers_;
  Session session_;
  Nanos wake_at_ = 0;
  Nanos search_from_ = 0;  // when the command was sent whose answer is searched for
  std::array<Lane, 2> lanes_;
  std::uint32_t definitions_ = 0;  // that are still to come
  std::uint16_t prepare_columns_ = 0;
  Phase phase_ = Phase::greeting;
  Stage stage_ = Stage::first;
  std::uint8_t answer_sequence_ = 0;  // of the next packet of the answer under way
  std::uint8_t infile_sequence_ = 0;
  bool direction_known_ = false;
  bool proven_ = false;        // it is this protocol
  bool in_order_ = false;      // responses can be paired
  bool begun_ = false;         // the answer of the oldest command has begun
  bool ended_ = false;         // the packet that passes is its last
  bool request_open_ = false;  // a command's packets are passing
  bool infile_ = false;        // the client sends a file
  bool trailing_ = false;      // an EOF may follow the answer that has just ended
  bool overdue_ = false;       // no command came for an answer that waited
  bool waiting_ = false;       // the packet that is next waits for the other direction
};

}  // namespace olly::mysql
