// One Redis connection: framing in both directions, and the pairing of replies with commands.
//
// Pairing: replies come in the order of commands, one each, but for
//   - subscriptions: a confirmation per channel, in RESP3 as pushes;
//   - CLIENT REPLY OFF and SKIP: none;
//   - pushes (">", and in RESP2 arrays that pub/sub sends to a subscriber): they answer nothing.
// MONITOR, SYNC and PSYNC end it: what follows their reply is not in that form.
//
// Only a connection in step is paired: seen from its first byte on both sides, or met at a moment
// when nothing was outstanding. Out of step (joined in its middle, bytes lost), messages are only
// counted. It is in step again when
//   - as many replies as commands were seen, at least one, and then nothing for kQuiet before the
//     next command (a reply that is due for longer than that is a blocking command's, and behind
//     one no other would have been answered); or
//   - the client never had two commands outstanding, in at least kSingles exchanges: then its next
//     command says that there is nothing outstanding.
// What was outstanding when bytes of the reply stream were lost ends as incomplete; what was
// outstanding when bytes of the command stream were lost is answered first, so it stays.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "protocol/common/slot_queue.h"
#include "protocol/protocol.h"
#include "protocol/redis/attributes.h"
#include "protocol/redis/detect.h"
#include "protocol/redis/parse.h"
#include "protocol/redis/text.h"

namespace olly::redis {

// Unanswered commands of one connection; past that it is given up (opaque). redis-py's pipelines of
// 10,000 commands are common.
inline constexpr std::size_t kMaxPipeline = 64 * 1024;
// Losses of framing, one after the other, before the connection is given up.
inline constexpr int kMaxInvalid = 8;
// Calls that are passed over in search of a command before the connection is given up.
inline constexpr int kMaxMisses = 1000;
// How long a reply that overtook its command waits for it (threads stamp after they have moved).
inline constexpr Nanos kOvertakeTime = 5 * kMillisecond;
inline constexpr Nanos kQuiet = 20 * kMillisecond;
inline constexpr int kSingles = 4;

// A command and what its reply will mean.
struct Slot {
  Exchange* exchange = nullptr;    // null: no span (budget, timed out), but it counts for pairing
  std::int64_t confirmations = 0;  // still due; negative: until nothing is subscribed
  int database = -1;               // SELECT's
  Role role = Role::plain;
  bool blocking = false;
  bool known = false;          // the command is one
  bool reply_on = false;       // CLIENT REPLY ON, after OFF
  bool database_after = true;  // false: a SELECT without a reply came right behind it
};

using Queue = SlotQueue<Slot>;

// A command that is being read.
struct Partial {
  CommandText text;
  std::uint64_t position = 0;
  IoMark first;
  IoMark last;
  Exchange* exchange = nullptr;
  bool begun = false;  // before the command was whole
  bool by_line = false;
};

// Shared by the connections of a Tracker.
struct Pools {
  QueuePool<Slot> queues;
  std::vector<std::unique_ptr<Partial>> partials;
  std::unique_ptr<Partial> take_partial();
  void give_partial(std::unique_ptr<Partial> partial);
};

class RedisConnection final : public ProtocolParser {
 public:
  RedisConnection(Connection& connection, ExchangeSink& sink, Pools& pools,
                  std::array<bool, 2> from_start, bool lost) noexcept;
  ~RedisConnection() override;

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
  bool is_request(Direction d) const noexcept { return d == request_direction_; }
  Side side() const noexcept {
    return request_direction_ == Direction::recv ? Side::server : Side::client;
  }
  bool& request_aligned() noexcept {
    return aligned_[static_cast<std::size_t>(request_direction_)];
  }
  bool& reply_aligned() noexcept {
    return aligned_[static_cast<std::size_t>(opposite(request_direction_))];
  }
  bool queue_empty() const noexcept { return !queue_ || queue_->empty(); }
  bool subscribed() const noexcept { return channels_ + patterns_ + shard_channels_ > 0; }
  bool one_at_a_time() const noexcept { return !pipelined_ && singles_ >= kSingles; }
  ParseResult to_next_call(const Window& w) noexcept;

  // requests.cpp
  ParseResult parse_request(const Window& w) noexcept;
  ParseResult find_request(const Window& w) noexcept;
  ParseResult read_line(const Window& w) noexcept;
  ParseResult read_array(const Window& w) noexcept;
  ParseResult read_arguments(const Window& w, std::size_t used) noexcept;
  ParseResult pause(const Window& w, std::size_t used, std::uint64_t skip) noexcept;
  ParseResult on_command(std::size_t used) noexcept;
  ParseResult on_uncounted(std::size_t used) noexcept;
  ParseResult bad_request(const Window& w) noexcept;
  void start(const Window& w, std::int64_t argc, bool by_line) noexcept;
  void begin_exchange() noexcept;
  bool takes_reply() noexcept;
  void put(bool reply, bool reply_on) noexcept;
  void drop_partial(std::string_view incomplete, std::string_view error) noexcept;

  // replies.cpp
  ParseResult parse_reply(const Window& w) noexcept;
  ParseResult find_reply(const Window& w) noexcept;
  ParseResult probe_reply(const Window& w) noexcept;
  ParseResult on_reply(std::size_t used) noexcept;
  ParseResult on_answer(std::size_t used) noexcept;
  ParseResult bad_reply(const Window& w) noexcept;
  bool waits_for_command(const Window& w) noexcept;
  bool is_pushed() const noexcept;
  void on_pushed() noexcept;
  void on_surplus() noexcept;
  void note_subscriptions() noexcept;
  bool confirmed(const Slot& slot) const noexcept;
  void apply(const Slot& slot) noexcept;
  void mark_reply(Slot& slot) noexcept;

  void lose_step() noexcept;
  void regain_step(const Window& w) noexcept;
  void reply_loss() noexcept;
  void finish(Slot& slot, std::string_view incomplete, std::string_view error) noexcept;
  void finish_all(std::string_view incomplete, std::string_view error) noexcept;
  void drop_front() noexcept;

  Connection& connection_;
  ExchangeSink& sink_;
  Pools& pools_;
  std::unique_ptr<Queue> queue_;
  std::unique_ptr<Partial> partial_;  // while a command is not whole
  const Probe* probe_ = nullptr;      // what an inline command's reply must show
  ReplyReader reply_;
  IoMark reply_first_;
  IoMark reply_last_;
  Nanos wake_at_ = 0;
  Nanos last_activity_ = 0;
  std::int64_t outstanding_ = 0;  // out of step: commands seen less replies seen
  std::int64_t channels_ = 0;     // as the confirmations count them
  std::int64_t patterns_ = 0;
  std::int64_t shard_channels_ = 0;
  int database_ = -1;         // negative: not known. In the order of replies
  std::uint16_t misses_ = 0;  // calls passed over in search of a command
  std::uint8_t invalid_ = 0;
  std::uint8_t singles_ = 0;  // exchanges, while there were never two at once
  Direction request_direction_ = Direction::recv;
  ReplyMode reply_mode_ = ReplyMode::on;  // in the order of commands; skip: the next gets no reply
  std::array<bool, 2> aligned_{};         // that stream stands within known messages
  bool direction_known_ = false;
  bool established_ = false;  // commands as arrays were seen, or an inline one with its reply
  bool in_step_ = false;
  bool round_trip_ = false;    // out of step: a command and a reply were seen
  bool pipelined_ = false;     // two commands were outstanding once
  bool overtaken_ = false;     // a reply has waited long enough for its command
  bool proven_ = false;        // wake_at_ is for the command that waited for the proof
  bool in_multi_ = false;      // in the order of commands
  bool multi_select_ = false;  // what was queued, in the order of replies
  bool multi_odd_ = false;     // ... whose replies within EXEC's cannot be told apart
  bool resp3_ = false;
};

}  // namespace olly::redis
