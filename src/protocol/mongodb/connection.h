// One MongoDB connection: framing in both directions by the header's length, and the pairing of
// replies with requests by id.
//
// Pairing: a reply names the request that it answers (responseTo), so the order does not matter and
// a loss cannot pair the wrong ones: what was lost has no span, or one that says so. In an exhaust
// stream every reply names the one before it; the exchange ends with the last.
//
// Who asks: the side that connected. Where that is not known, the first message that answers
// nothing.
//
// In the middle of a stream (joined, or after a loss whose end is in no known message) a direction
// is silent until a call begins with a plausible message (parse.h): of replies one that answers a
// known request, of requests one that answers nothing.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "protocol/mongodb/attributes.h"
#include "protocol/mongodb/decompress.h"
#include "protocol/mongodb/parse.h"
#include "protocol/protocol.h"

namespace olly::mongodb {

// Unanswered requests of one connection; past that the oldest counts as lost.
inline constexpr std::size_t kMaxUnanswered = 256;
// Messages that are none, one after the other, before the connection is given up.
inline constexpr int kMaxInvalid = 8;
// How long a reply that overtook its request waits for it (threads stamp after they have moved).
inline constexpr Nanos kOvertakeTime = 5 * kMillisecond;

class MongoConnection final : public ProtocolParser {
 public:
  MongoConnection(Connection& connection, ExchangeSink& sink, Decompressor& decompressor,
                  std::array<bool, 2> from_start, bool lost) noexcept;

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
  // As one that rested so.
  void resume(std::uint32_t rested) noexcept;

 private:
  // A request that was not answered yet.
  struct Slot {
    Exchange* exchange = nullptr;  // null: no span (budget, handshake), but it is paired
    std::uint32_t serial = 0;
    std::int32_t id = 0;
    std::int32_t next = 0;  // the id that the next reply answers: of a stream, the one before it
    bool no_reply = false;  // ends with its last byte
    bool command = false;   // what it gets is a command's reply
    bool exhaust = false;   // legacy: replies follow until the cursor is used up
    bool insert = false;    // its reply tells how many statements it had
    bool answered = false;  // its last reply is on its way
    bool lost = false;      // replies were lost since: its own may have been among them
    std::string_view incomplete;
    Outcome outcome;
  };
  enum class State : std::uint8_t {
    start,   // at a message's first byte
    body,    // behind what is read of a message: skipped, ends where the next parse() begins
    broken,  // as body, but bytes before it were lost: what is left of the message is passed over
    resync,  // looking for a message
  };
  struct Lane {
    State state = State::start;
    bool last_reply = false;  // of the reply under way: none follows by itself
    bool waiting = false;     // for more of the message with this header, which ends at `end`
    std::uint32_t slot = 0;   // serial of the message under way or last seen; 0 = none
    std::uint64_t end = 0;    // of the message under way
    Header header;
  };

  bool is_request(Direction d) const noexcept { return d == request_direction_; }
  Lane& lane(Direction d) noexcept { return lanes_[static_cast<std::size_t>(d)]; }
  const Lane& lane(Direction d) const noexcept { return lanes_[static_cast<std::size_t>(d)]; }

  bool settle_direction(Direction d, const Window& w) noexcept;
  ParseResult parse_message(Direction d, const Window& w) noexcept;
  ParseResult search(Direction d, const Window& w) noexcept;
  ParseResult on_request(const Header& h, ByteView message, const Window& w) noexcept;
  ParseResult on_reply(const Header& h, ByteView message, const Window& w) noexcept;
  ParseResult frame(Direction d, const Header& h, std::size_t read, const Window& w) noexcept;
  ParseResult on_invalid(Direction d, const Window& w) noexcept;
  MessageError read_command(const Header& h, ByteView body, Command& command) noexcept;
  MessageError read_reply(const Header& h, ByteView body, bool command, Reply& reply) noexcept;
  bool overtook(const Window& w) noexcept;
  void take_reply(Slot& slot, const Reply& reply) noexcept;
  void message_done(Direction d) noexcept;
  void lose(Direction d) noexcept;

  Slot* find(std::uint32_t serial) noexcept;
  Slot* awaiting(std::int32_t id) noexcept;
  void finish(Slot& slot, std::string_view incomplete, std::string_view error) noexcept;
  void remove(Slot& slot) noexcept;
  void finish_all(std::string_view incomplete, std::string_view error) noexcept;

  Connection& connection_;
  ExchangeSink& sink_;
  Decompressor& decompressor_;
  std::vector<Slot> slots_;  // oldest first; almost always holds one, keeps its memory
  std::array<Lane, 2> lanes_;
  Nanos wake_at_ = 0;
  std::uint32_t serial_ = 0;
  Direction request_direction_ = Direction::recv;
  bool direction_known_ = false;
  bool partial_ = false;  // requests may have gone unseen: a reply may answer one of them
  std::uint8_t invalid_ = 0;
};

}  // namespace olly::mongodb
