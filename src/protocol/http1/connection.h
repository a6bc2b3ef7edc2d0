// One HTTP/1.x connection: message framing in both directions (RFC 9112 section 6) and the pairing
// of responses with requests.
//
// Pairing: responses come in the order of requests (9.3.2). A response is paired with the oldest
// unanswered request, and only where nothing was lost between: after a loss in the response
// direction no outstanding request gets a response; after a loss in the request direction the next
// request is paired on trial: what it got is believed when the client goes on with another request
// (or 100 ms pass), and withdrawn when a second response comes without one (the loss hid a
// pipelined request).
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "protocol/common/slot_queue.h"
#include "protocol/http1/parse.h"
#include "protocol/protocol.h"

namespace olly::http1 {

// Unanswered requests of one connection; past that the connection is given up (opaque).
inline constexpr std::size_t kMaxPipeline = 1024;
// Messages that are not HTTP, one after the other, before the connection is given up.
inline constexpr int kMaxInvalid = 8;
// How long a response that overtook its request waits for it (threads stamp after they have moved).
inline constexpr Nanos kOvertakeTime = 5 * kMillisecond;
inline constexpr Nanos kTrialTime = 100 * kMillisecond;

// Value of olly.incomplete, besides those of protocol/common/ending.h.
inline constexpr std::string_view kAmbiguousFraming = "ambiguous framing";

// A request and what is known of its response.
struct Slot {
  Exchange* exchange = nullptr;  // null: no span (budget, or timed out), but it counts for pairing
  std::int64_t request_body = 0;
  std::int64_t response_body = 0;
  int status = -1;
  bool head_method = false;
  bool connect = false;
  bool upgrade = false;
  bool request_done = false;  // its last byte was seen
  bool request_has_body = false;
  bool trial = false;     // follows a loss: see above
  bool answered = false;  // on trial, response complete
  bool broken = false;    // its response lost bytes
  std::string_view incomplete;
};

using Queue = SlotQueue<Slot>;
using Queues = QueuePool<Slot>;

class HttpConnection final : public ProtocolParser {
 public:
  HttpConnection(Connection& connection, ExchangeSink& sink, Queues& pool,
                 std::array<bool, 2> from_start, bool lost) noexcept;
  ~HttpConnection() override;

  ParseResult parse(Direction direction, const Window& window) noexcept override;
  void skipped(Direction direction, std::uint64_t n, const IoMark& mark) noexcept override;
  void gap(Direction direction, std::uint64_t position, std::uint64_t length) noexcept override;
  void eof(Direction direction, const IoMark& mark) noexcept override;
  void timeout(Nanos now) noexcept override;
  void end(EndReason reason, Nanos time, std::uint32_t error) noexcept override;
  Upgrade hand_over() noexcept override;
  Exchange* current(Direction direction) const noexcept override;
  Nanos wake_at() const noexcept override { return wake_at_; }
  std::optional<std::uint32_t> rest() noexcept override;
  void resume(std::uint32_t rested) noexcept;
  void tick(Nanos now) noexcept override;

 private:
  enum class State : std::uint8_t {
    start,  // at a message's first byte
    body,   // known length: being skipped, ends where the next parse() begins
    chunk_line,
    chunk_data,  // being skipped, its CRLF is next
    trailers,
    to_end,  // close-delimited: everything is body
    await,   // an upgrade or CONNECT was asked for: what follows depends on the answer
    resync,  // looking for a plausible message start
    opaque,
  };
  struct Lane {
    State state = State::start;
    bool lost_chunked = false;  // resync began inside a chunked body
    std::uint32_t scanned = 0;  // bytes of the window known not to end the head or section
  };

  bool is_request(Direction d) const noexcept { return d == request_direction_; }
  Lane& lane(Direction d) noexcept { return lanes_[static_cast<std::size_t>(d)]; }
  Lane& request_lane() noexcept { return lane(request_direction_); }
  Lane& response_lane() noexcept { return lane(opposite(request_direction_)); }
  bool queue_empty() const noexcept { return !queue_ || queue_->empty(); }
  void drop_front() noexcept;

  ParseResult parse_start(Direction d, const Window& w) noexcept;
  ParseResult parse_head(Direction d, const Window& w) noexcept;
  ParseResult parse_chunk(Direction d, const Window& w) noexcept;
  ParseResult parse_trailer(Direction d, const Window& w) noexcept;
  ParseResult search_start(Direction d, const Window& w) noexcept;
  ParseResult on_request(const RequestHead& head, const Window& w) noexcept;
  ParseResult on_response(const ResponseHead& head, const Window& w) noexcept;
  ParseResult on_tunnel(Slot& slot, const ResponseHead& head) noexcept;
  ParseResult frame_response(Slot& slot, const ResponseHead& head) noexcept;
  ParseResult on_unsolicited(const ResponseHead& head, const Window& w) noexcept;
  ParseResult on_invalid(Direction d, const Window& w) noexcept;
  void message_done(Direction d) noexcept;
  void mark_progress(Direction d, const IoMark& mark) noexcept;
  void request_loss() noexcept;
  void response_loss() noexcept;
  void settle_trial(bool believed) noexcept;
  void end_broken() noexcept;
  void finish(Slot& slot, std::string_view incomplete, std::string_view error) noexcept;
  void refuse(Slot& slot) noexcept;
  void finish_all(std::string_view incomplete, std::string_view error) noexcept;

  Connection& connection_;
  ExchangeSink& sink_;
  Queues& pool_;
  std::unique_ptr<Queue> queue_;
  std::array<Lane, 2> lanes_;
  Nanos wake_at_ = 0;
  Direction request_direction_ = Direction::recv;
  bool direction_known_ = false;
  bool uncertain_ = false;  // a loss may hide requests
  bool joined_ = false;     // not seen from the start: a response may belong to an earlier request
  std::uint8_t invalid_ = 0;
};

}  // namespace olly::http1
