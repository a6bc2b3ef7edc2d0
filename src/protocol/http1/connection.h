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

#include "protocol/http1/attributes.h"
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

// Why an exchange is not whole: values of olly.incomplete.
inline constexpr std::string_view kLostBytes = "lost bytes";
inline constexpr std::string_view kAmbiguousFraming = "ambiguous framing";
inline constexpr std::string_view kTimeout = "timeout";
inline constexpr std::string_view kClosed = "connection closed";
inline constexpr std::string_view kEvicted = "evicted";
inline constexpr std::string_view kStopped = "agent stopped";
inline constexpr std::string_view kRevised = "not http";
inline constexpr std::string_view kUnreadable = "unreadable";
inline constexpr std::string_view kIgnored = "not observed";

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

// First in, first out, keeps its memory; almost always holds one.
class SlotQueue {
 public:
  bool empty() const noexcept { return head_ == slots_.size(); }
  std::size_t size() const noexcept { return slots_.size() - head_; }
  Slot& front() noexcept { return slots_[head_]; }
  Slot& back() noexcept { return slots_.back(); }
  const Slot& front() const noexcept { return slots_[head_]; }
  const Slot& back() const noexcept { return slots_.back(); }
  Slot& at(std::size_t i) noexcept { return slots_[head_ + i]; }
  Slot& push() {
    if (head_ > 64 && head_ * 2 > slots_.size()) {
      slots_.erase(slots_.begin(), slots_.begin() + static_cast<std::ptrdiff_t>(head_));
      head_ = 0;
    }
    return slots_.emplace_back();
  }
  void pop() noexcept {
    if (++head_ == slots_.size()) slots_.clear(), head_ = 0;
  }
  void pop_back() noexcept {
    slots_.pop_back();
    if (head_ == slots_.size()) slots_.clear(), head_ = 0;
  }

 private:
  std::vector<Slot> slots_;
  std::size_t head_ = 0;
};

// Queues of idle connections' parsers, kept for the next that needs one.
class QueuePool {
 public:
  std::unique_ptr<SlotQueue> take() {
    if (free_.empty()) return std::make_unique<SlotQueue>();
    std::unique_ptr<SlotQueue> q = std::move(free_.back());
    free_.pop_back();
    return q;
  }
  void give(std::unique_ptr<SlotQueue> queue) {
    if (free_.size() < 256) free_.push_back(std::move(queue));
  }

 private:
  std::vector<std::unique_ptr<SlotQueue>> free_;
};

class HttpConnection final : public ProtocolParser {
 public:
  HttpConnection(Connection& connection, ExchangeSink& sink, QueuePool& pool,
                 std::array<bool, 2> from_start, bool lost) noexcept;
  ~HttpConnection() override;

  ParseResult parse(Direction direction, const Window& window) noexcept override;
  void skipped(Direction direction, std::uint64_t n, const IoMark& mark) noexcept override;
  void gap(Direction direction, std::uint64_t position, std::uint64_t length) noexcept override;
  void eof(Direction direction, const IoMark& mark) noexcept override;
  void timeout(Nanos now) noexcept override;
  void end(EndReason reason, Nanos time, std::uint32_t error) noexcept override;
  Exchange* current(Direction direction) const noexcept override;
  Nanos wake_at() const noexcept override { return wake_at_; }
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
  QueuePool& pool_;
  std::unique_ptr<SlotQueue> queue_;
  std::array<Lane, 2> lanes_;
  Nanos wake_at_ = 0;
  Direction request_direction_ = Direction::recv;
  bool direction_known_ = false;
  bool uncertain_ = false;  // a loss may hide requests
  bool joined_ = false;     // not seen from the start: a response may belong to an earlier request
  std::uint8_t invalid_ = 0;
};

}  // namespace olly::http1
