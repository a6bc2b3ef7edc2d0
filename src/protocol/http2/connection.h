// One HTTP/2 connection: frames in both directions (RFC 9113 section 4), header blocks, and the
// streams that requests and responses share (5.1). A stream is an exchange; its span is made when
// the stream ends.
//
// A direction that was not seen from its first byte, or lost bytes, is searched for a chain of
// plausible frame headers; its dynamic table is unknown then, and fields that refer to it are said
// to be unknown (kUnknownFields). Streams that were open before are never reported.
//
// Without the client's preface, frames prove nothing until there were header blocks in both
// directions that make a request and a response: no request before that has a span, and a frame
// that is not plausible means that this is another protocol.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "protocol/common/rest_store.h"
#include "protocol/http2/frame.h"
#include "protocol/http2/grpc.h"
#include "protocol/http2/head.h"
#include "protocol/http2/hpack.h"
#include "protocol/protocol.h"

namespace olly::http2 {

// Open streams of one connection; past that the oldest leaves as "evicted".
inline constexpr std::size_t kMaxStreams = 1024;
// A header block, all of its frames together. A longer one is passed over, its table with it.
inline constexpr std::size_t kMaxBlock = 64 * 1024;
// Frames that are none, one after the other, before the connection is given up.
inline constexpr int kMaxInvalid = 8;
// How long a response waits for its request, or the end of its request: threads stamp what they
// have moved after they have moved it.
inline constexpr Nanos kOvertakeTime = 5 * kMillisecond;
// How long a stream some of whose bytes were lost may be silent: its end may be among them.
inline constexpr Nanos kLostWait = 5 * kSecond;

// Value of olly.incomplete, besides those of protocol/common/ending.h: header fields lie in a part
// of a dynamic table that was not seen.
inline constexpr std::string_view kUnknownFields = "unknown header fields";

// error.type of a reset whose code has no name.
inline constexpr std::string_view kUnnamedError = "RST_STREAM";

// What the configuration lets through.
struct Switches {
  bool http2 = true;
  bool grpc = true;
};

// Of a connection without open streams: what its parser goes on with. By direction.
struct Rested {
  std::array<HpackDecoder, 2> hpack;
  std::array<std::uint32_t, 2> max_frame{};
  std::array<bool, 2> whole{};
  std::uint32_t last_id = 0;
  Direction request_direction = Direction::recv;
  bool uncertain = false;
  bool hidden = false;
  std::uint8_t invalid = 0;
  std::size_t bytes() const noexcept {
    return hpack[0].table().memory() + hpack[1].table().memory();
  }
};

// What all connections of one Protocol share: they never run at once.
struct Shared {
  Switches on;
  Head head;
  RestStore<Rested> rested;
};

struct Http2Stream {
  Exchange* exchange = nullptr;  // null: the budget is exhausted
  std::uint32_t id = 0;
  std::int32_t status = -1;       // of HTTP
  std::int32_t grpc_status = -1;  // as sent
  bool grpc = false;
  bool upgraded = false;  // its request was HTTP/1
  bool request_done = false;
  bool response_begun = false;
  bool response_done = false;
  bool has_body = false;
  bool overlapped = false;
  std::uint32_t reset = 0;  // error code, when reset_seen
  bool reset_seen = false;
  std::string_view incomplete;
  std::int64_t request_body = 0;
  std::int64_t response_body = 0;
  Nanos finish_at = 0;  // the response is complete; the request's end is waited for
  Nanos timeout = 0;    // grpc-timeout
  AttributeList::Text method;
  std::array<MessageCounter, 2> messages;  // request, response
};

class Http2Connection final : public ProtocolParser {
 public:
  Http2Connection(Connection& connection, ExchangeSink& sink, Shared& shared,
                  std::array<bool, 2> from_start, bool lost) noexcept;
  // After an upgrade from HTTP/1 (RFC 7540 3.2): stream 1 is `upgrade`'s exchange.
  Http2Connection(Connection& connection, ExchangeSink& sink, Shared& shared,
                  const Upgrade& upgrade) noexcept;
  // As one that rested so.
  Http2Connection(Connection& connection, ExchangeSink& sink, Shared& shared,
                  Rested&& rested) noexcept;

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
  enum class State : std::uint8_t {
    first,   // nothing was parsed yet: the preface, or a frame
    frame,   // at a frame's first byte
    data,    // inside a DATA frame
    resync,  // looking for plausible frames
    opaque,
  };
  // A header block whose end is to come (CONTINUATION).
  struct Block {
    std::vector<std::uint8_t> bytes;
    std::uint64_t position = 0;  // of its first frame
    IoMark first;
    FrameHeader header;  // of its first frame
    bool too_long = false;
  };
  struct Asked {
    std::uint32_t stream = 0;
    bool telling = false;  // its fields are those of a request, as far as they are known
  };
  struct Lane {
    explicit Lane() noexcept : hpack(&name_of) {}
    HpackDecoder hpack;
    std::unique_ptr<Block> block;
    State state = State::first;
    bool whole = true;            // seen from its first byte, nothing lost
    bool end_stream = false;      // of the DATA frame
    std::uint32_t stream = 0;     // of the frame under way, or the last; 0 = the connection's
    std::uint32_t data_left = 0;  // of the DATA frame
    std::uint32_t pad_left = 0;
    std::uint32_t max_frame = kInitialMaxFrame;
  };

  Lane& lane(Direction d) noexcept { return lanes_[static_cast<std::size_t>(d)]; }
  const Lane& lane(Direction d) const noexcept { return lanes_[static_cast<std::size_t>(d)]; }
  bool is_request(Direction d) const noexcept {
    return direction_known_ && d == request_direction_;
  }
  void know_direction(Direction request) noexcept;
  Http2Stream* find(std::uint32_t id) noexcept;
  const Http2Stream* find(std::uint32_t id) const noexcept;

  ParseResult parse_lane(Direction d, const Window& w) noexcept;
  ParseResult parse_first(Direction d, const Window& w) noexcept;
  ParseResult parse_frame(Direction d, const Window& w) noexcept;
  ParseResult parse_data(Direction d, const Window& w) noexcept;
  ParseResult search(Direction d, const Window& w) noexcept;
  ParseResult on_invalid(Direction d, const Window& w) noexcept;
  ParseResult on_data(Direction d, const FrameHeader& header, const Window& w) noexcept;
  ParseResult on_headers(Direction d, const FrameHeader& header, const Window& w) noexcept;
  ParseResult on_continuation(Direction d, const FrameHeader& header, const Window& w) noexcept;
  ParseResult on_control(Direction d, const FrameHeader& header, const Window& w) noexcept;
  bool is_answer(Direction d, std::uint32_t id, bool telling) const noexcept;
  bool overtakes(Direction d, const FrameHeader& header, const Window& w) noexcept;
  void pass_block(Direction d, const FrameHeader& header) noexcept;
  bool on_block(Direction d, const FrameHeader& header, ByteView block, std::uint64_t position,
                const IoMark& first, const IoMark& last) noexcept;
  void on_request(std::uint32_t id, bool end_stream, std::uint64_t position, const IoMark& first,
                  const IoMark& last) noexcept;
  void on_response(std::uint32_t id, bool end_stream, const IoMark& first,
                   const IoMark& last) noexcept;
  void on_reset(Direction d, std::uint32_t id, std::uint32_t code, const IoMark& mark) noexcept;
  void on_goaway(Direction d, ByteView payload, const IoMark& mark) noexcept;

  void side_done(Http2Stream& s, Direction d) noexcept;
  void mark_progress(Http2Stream& s, Direction d, const IoMark& mark) noexcept;
  void note_overlap(Http2Stream& s) noexcept;
  void lose(Direction d) noexcept;
  void wake_by(Nanos time) noexcept;
  void end_lost(Nanos now) noexcept;
  int grpc_status_of(const Http2Stream& s) const noexcept;
  void finish(Http2Stream& s, std::string_view incomplete, std::string_view error) noexcept;
  void remove(Http2Stream& s) noexcept;
  void finish_all(std::string_view incomplete, std::string_view error) noexcept;

  Connection& connection_;
  ExchangeSink& sink_;
  Shared& shared_;
  std::array<Lane, 2> lanes_;
  std::vector<Http2Stream> streams_;  // by id
  std::array<Asked, 8> asked_{};      // while nothing is proven: the latest
  Nanos wake_at_ = 0;
  Nanos overtaking_until_ = 0;
  Nanos lost_until_ = 0;       // when streams that lost bytes are looked at again
  std::uint32_t last_id_ = 0;  // the latest request's stream
  Direction request_direction_ = Direction::recv;
  bool direction_known_ = false;
  bool proven_ = false;     // it is this protocol
  bool answers_ = false;    // the other direction has had the fields of a response
  bool telling_ = false;    // while nothing is proven: see Asked; of the block that is being read
  bool uncertain_ = false;  // requests may be open that were not seen
  bool hidden_ = false;     // streams may be open that are not in streams_
  bool overlapping_ = false;
  bool losses_ = false;  // some of streams_ lost bytes
  std::uint8_t invalid_ = 0;
};

}  // namespace olly::http2
