#include "hook/ebpf/ring.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "event/abi.h"
#include "hook/decode.h"
#include "hook/ebpf/loader.h"
#include "hook/ebpf/policy.h"

namespace olly {
namespace {

// A ring in plain memory, written as kernel/bpf/ringbuf.c does.
struct FakeRing {
  static constexpr std::uint64_t kSize = 4096;
  std::uint64_t consumer = 0;
  std::uint64_t producer = 0;
  alignas(8) std::uint8_t data[kSize] = {};

  std::unique_ptr<RecordSource> view() {
    return std::make_unique<Ring>(&consumer, &producer, data, kSize);
  }

  // Returns the header's place, for tests that change it.
  std::uint32_t* put(const void* record, std::uint32_t length, std::uint32_t bits = 0) {
    const std::uint32_t header[2] = {length | bits, 0};
    auto* place = reinterpret_cast<std::uint32_t*>(data + (producer & (kSize - 1)));
    std::memcpy(place, header, sizeof header);
    for (std::uint32_t i = 0; i < length; ++i) {
      data[(producer + 8 + i) & (kSize - 1)] = static_cast<const std::uint8_t*>(record)[i];
    }
    producer += (length + 8 + 7) & ~std::uint64_t{7};
    return place;
  }
  std::uint32_t* put_close(Nanos time, SocketId sock, std::uint32_t bits = 0) {
    olly_close_record r{};
    r.h = {OLLY_REC_CLOSE, 0, sizeof r, time};
    r.sock = sock;
    return put(&r, sizeof r, bits);
  }
};

class Recorder : public EventSink {
 public:
  void on_process(const ProcessEvent& e) noexcept override {
    text += "process " + std::to_string(e.pid) + "\n";
  }
  void on_connect(const ConnectEvent& e) noexcept override {
    text += "connect " + std::to_string(e.sock) + "\n";
  }
  void on_open(const OpenEvent& e) noexcept override {
    text += "open " + std::to_string(e.sock) + " " + std::string(e.path) + "\n";
  }
  void on_io(const IoEvent& e) noexcept override {
    text += "io " + std::to_string(e.position) + "+" + std::to_string(e.length) + " " +
            std::string(as_text(e.payload)) + "\n";
  }
  void on_close(const CloseEvent& e) noexcept override {
    text += std::to_string(e.sock) + "@" + std::to_string(e.time) + " ";
  }
  void on_advance(Nanos) noexcept override {}
  std::string text;
};

TEST(RingMerger, MergesByTimeUpToTheHorizon) {
  FakeRing a, b;
  for (const Nanos t : {10, 30, 50}) a.put_close(t, 1);
  for (const Nanos t : {20, 40, 60}) b.put_close(t, 2);
  RingMerger merger;
  merger.add(a.view());
  merger.add(b.view());
  Recorder sink;
  EXPECT_EQ(merger.drain(45, 100, sink), 4u);
  EXPECT_EQ(sink.text, "1@10 2@20 1@30 2@40 ");
  EXPECT_FALSE(merger.empty());
  sink.text.clear();
  EXPECT_EQ(merger.drain(100, 100, sink), 2u);
  EXPECT_EQ(sink.text, "1@50 2@60 ");
  EXPECT_TRUE(merger.empty());
  EXPECT_EQ(a.consumer, a.producer);  // the space was given back
  EXPECT_EQ(b.consumer, b.producer);
}

TEST(RingMerger, TimeNeverGoesBack) {
  FakeRing a;
  a.put_close(30, 1);
  a.put_close(20, 2);  // its producer was interrupted by the first one's
  RingMerger merger;
  merger.add(a.view());
  Recorder sink;
  merger.drain(100, 100, sink);
  EXPECT_EQ(sink.text, "1@30 2@30 ");
  EXPECT_EQ(merger.late_records(), 1u);
  merger.advance_to(200);
  a.put_close(150, 3);
  sink.text.clear();
  merger.drain(300, 100, sink);
  EXPECT_EQ(sink.text, "3@200 ");
}

TEST(RingMerger, WaitsForARecordThatIsBeingWritten) {
  FakeRing a;
  std::uint32_t* header = a.put_close(10, 1, 1u << 31);
  a.put_close(20, 2);
  RingMerger merger;
  merger.add(a.view());
  Recorder sink;
  EXPECT_EQ(merger.drain(100, 100, sink), 0u);
  EXPECT_FALSE(merger.empty());
  *header &= ~(1u << 31);
  EXPECT_EQ(merger.drain(100, 100, sink), 2u);
  EXPECT_EQ(sink.text, "1@10 2@20 ");
}

TEST(RingMerger, PassesOverDiscardedRecords) {
  FakeRing a;
  a.put_close(10, 1, 1u << 30);
  a.put_close(20, 2);
  RingMerger merger;
  merger.add(a.view());
  Recorder sink;
  merger.drain(100, 100, sink);
  EXPECT_EQ(sink.text, "2@20 ");
}

TEST(RingMerger, RecordsThatWrapAreWhole) {
  FakeRing a;
  RingMerger merger;
  merger.add(a.view());
  // 56 bytes each, 4096 in the ring: the end falls into every part of a record in time.
  for (Nanos t = 1; t <= 1000; ++t) {
    a.put_close(t, t * 7);
    Recorder sink;
    ASSERT_EQ(merger.drain(5000, 10, sink), 1u);
    ASSERT_EQ(sink.text, std::to_string(t * 7) + "@" + std::to_string(t) + " ");
  }
  EXPECT_EQ(merger.bad_records(), 0u);
}

TEST(RingMerger, ARecordLongerThanTheRingHoldsEmptiesIt) {
  FakeRing a;
  std::uint32_t* header = a.put_close(10, 1);
  *header = 4000;
  RingMerger merger;
  merger.add(a.view());
  Recorder sink;
  EXPECT_EQ(merger.drain(100, 100, sink), 0u);
  EXPECT_EQ(merger.bad_records(), 1u);
  a.put_close(20, 2);
  merger.drain(100, 100, sink);
  EXPECT_EQ(sink.text, "2@20 ");
}

TEST(RingMerger, ShortRecordIsCountedAndPassedOver) {
  FakeRing a;
  const std::uint64_t rubbish = 0x1234;
  a.put(&rubbish, sizeof rubbish);
  a.put_close(20, 2);
  RingMerger merger;
  merger.add(a.view());
  Recorder sink;
  merger.drain(100, 100, sink);
  EXPECT_EQ(sink.text, "2@20 ");
  EXPECT_EQ(merger.bad_records(), 1u);
}

struct IoBytes {
  alignas(8) olly_io_record r{};
  char payload[16] = {'p', 'a', 'y', 'l', 'o', 'a', 'd'};
  IoBytes() {
    r.h = {OLLY_REC_IO, 0, sizeof *this, 5};
    r.position = 100;
    r.length = 7;
    r.captured = 7;
  }
  ByteView view() const { return {reinterpret_cast<const std::uint8_t*>(this), sizeof *this}; }
};

TEST(DecodeRecord, Io) {
  IoBytes io;
  Recorder sink;
  EXPECT_TRUE(decode_record(io.view(), 5, sink));
  EXPECT_EQ(sink.text, "io 100+7 payload\n");
}

TEST(DecodeRecord, RefusesWhatDoesNotFit) {
  Recorder sink;
  const auto refused = [&](auto change) {
    IoBytes io;
    change(io.r);
    return !decode_record(io.view(), 5, sink);
  };
  EXPECT_TRUE(refused([](olly_io_record& r) {
    r.captured = 17;
    r.length = 100;
  }));
  EXPECT_TRUE(refused([](olly_io_record& r) {
    r.captured = ~0u;
    r.length = ~0u;
  }));
  EXPECT_TRUE(refused([](olly_io_record& r) { r.length = 6; }));
  EXPECT_TRUE(refused([](olly_io_record& r) { r.captured_offset = 1; }));
  EXPECT_TRUE(refused([](olly_io_record& r) { r.captured_offset = ~0u; }));
  EXPECT_TRUE(refused([](olly_io_record& r) { r.direction = 2; }));
  EXPECT_TRUE(refused([](olly_io_record& r) { r.h.size = 4096; }));
  EXPECT_TRUE(refused([](olly_io_record& r) { r.h.size = 79; }));
  EXPECT_TRUE(refused([](olly_io_record& r) { r.h.size = 0; }));
  EXPECT_TRUE(refused([](olly_io_record& r) { r.h.type = OLLY_REC_OPEN; }));
  EXPECT_EQ(sink.text, "");
  IoBytes unknown;
  unknown.r.h.type = 77;
  EXPECT_TRUE(decode_record(unknown.view(), 5, sink));
  EXPECT_EQ(sink.text, "");
}

TEST(DecodeRecord, UnixPaths) {
  olly_open_record r{};
  r.h = {OLLY_REC_OPEN, 0, sizeof r, 1};
  r.sock = 3;
  r.family = OLLY_FAMILY_UNIX;
  std::memcpy(r.path, "/run/x", 7);
  r.path_len = 7;
  Recorder sink;
  const ByteView bytes(reinterpret_cast<const std::uint8_t*>(&r), sizeof r);
  EXPECT_TRUE(decode_record(bytes, 1, sink));
  EXPECT_EQ(sink.text, "open 3 /run/x\n");
  sink.text.clear();
  std::memcpy(r.path, "\0abc", 4);
  r.path_len = 4;
  EXPECT_TRUE(decode_record(bytes, 1, sink));
  EXPECT_EQ(sink.text, std::string("open 3 \0abc\n", 12));
  r.path_len = 121;
  EXPECT_FALSE(decode_record(bytes, 1, sink));
}

TEST(PolicyTable, KeepsWhatWasSaidAndLosesACollision) {
  std::vector<olly_policy> slots(16);
  PolicyTable table(slots, 16384);
  table.skip_until(5, Direction::send, 1000);
  EXPECT_EQ(slots[5].sock, 5u);
  EXPECT_EQ(slots[5].skip_until[OLLY_SEND], 1000u);
  EXPECT_EQ(slots[5].skip_until[OLLY_RECV], 0u);
  EXPECT_EQ(slots[5].max_copy, 16384u);
  table.limit_copy(5, 1 << 20);
  EXPECT_EQ(slots[5].max_copy, 16384u);  // clamped
  EXPECT_EQ(slots[5].skip_until[OLLY_SEND], 1000u);
  table.quiet(21);  // the same slot
  EXPECT_EQ(slots[5].sock, 21u);
  EXPECT_EQ(slots[5].mode, static_cast<olly_u32>(OLLY_POLICY_QUIET));
  EXPECT_EQ(slots[5].skip_until[OLLY_SEND], 0u);
  table.forget(5);  // not its slot any more
  EXPECT_EQ(slots[5].sock, 21u);
  table.forget(21);
  EXPECT_EQ(slots[5].sock, 0u);
  table.quiet(0);  // no socket
  EXPECT_EQ(slots[0].mode, 0u);
}

TEST(LaneSize, StaysWithinTheTotal) {
  constexpr std::uint64_t kMiB = 1024 * 1024;
  EXPECT_EQ(lane_size(4 * kMiB, 2), 4 * kMiB);
  EXPECT_EQ(lane_size(4 * kMiB, 16), 4 * kMiB);
  EXPECT_EQ(lane_size(4 * kMiB, 17), 2 * kMiB);
  EXPECT_EQ(lane_size(4 * kMiB, 100000), kMiB / 16);
  EXPECT_EQ(lane_size(3 * kMiB, 1), 2 * kMiB);
  EXPECT_EQ(ring_size(2 * kMiB), kMiB / 2);
  EXPECT_EQ(ring_size(kMiB / 16), kMiB / 16);
}

// A lane in plain memory, written as bpf/common/store.h does.
struct FakeLane {
  static constexpr std::uint64_t kSize = 1 << 19;
  std::vector<std::uint64_t> memory =
      std::vector<std::uint64_t>((sizeof(olly_lane) + kSize + OLLY_LANE_SLACK) / 8);
  olly_lane* lane = reinterpret_cast<olly_lane*>(memory.data());
  std::uint8_t* data = reinterpret_cast<std::uint8_t*>(lane + 1);

  std::unique_ptr<RecordSource> view() { return std::make_unique<Lane>(lane, kSize); }

  bool put_io(Nanos time, std::uint64_t position, std::string_view payload) {
    const std::uint64_t used = lane->head - lane->tail, offset = lane->head & (kSize - 1);
    const std::uint64_t size = (sizeof(olly_io_record) + payload.size() + 7) & ~7ull;
    if (used + size + 8 > kSize) return false;
    olly_io_record r{};
    r.h = {OLLY_REC_IO, 0, static_cast<std::uint32_t>(size), time};
    r.position = position;
    r.length = r.captured = static_cast<std::uint32_t>(payload.size());
    std::memcpy(data + offset, &r, sizeof r);
    std::memcpy(data + offset + sizeof r, payload.data(), payload.size());
    lane->head += size;
    return true;
  }
};

TEST(Lane, ManyRoundsKeepEveryRecord) {
  FakeLane lane;
  RingMerger merger;
  merger.add(lane.view());
  std::uint64_t put = 0, got = 0;
  // The reader falls behind by more and more, then has caught up, again and again.
  for (int round = 0; round < 400; ++round) {
    for (int i = 0; i <= round % 40; ++i) {
      const std::string payload(1 + (put * 37) % 9000, static_cast<char>('a' + put % 26));
      if (lane.put_io(static_cast<Nanos>(put + 1), put, payload)) ++put;
    }
    struct : Recorder {
      std::uint64_t expected = 0, bad = 0;
      void on_io(const IoEvent& e) noexcept override {
        const std::string want(1 + (expected * 37) % 9000, static_cast<char>('a' + expected % 26));
        if (e.position != expected || as_text(e.payload) != want) ++bad;
        ++expected;
      }
    } sink;
    sink.expected = got;
    got += merger.drain(1 << 30, 1000, sink);
    ASSERT_EQ(sink.bad, 0u) << round;
    ASSERT_EQ(got, put);
  }
  EXPECT_EQ(merger.bad_records(), 0u);
  EXPECT_TRUE(merger.empty());
}

TEST(Lane, FullKeepsWhatIsThere) {
  FakeLane lane;
  RingMerger merger;
  merger.add(lane.view());
  std::uint64_t put = 0;
  while (lane.put_io(1, put, std::string(5000, 'x'))) ++put;
  EXPECT_GT(put, 90u);
  Recorder sink;
  EXPECT_EQ(merger.drain(10, 1000, sink), put);
  EXPECT_EQ(lane.lane->tail, lane.lane->head);
  EXPECT_TRUE(lane.put_io(2, put, "again"));
  sink.text.clear();
  EXPECT_EQ(merger.drain(10, 1000, sink), 1u);
  EXPECT_EQ(sink.text, "io " + std::to_string(put) + "+5 again\n");
}

TEST(Lane, WhatCannotBeRightEmptiesIt) {
  for (const std::uint32_t size : {0u, 4u, 12u, 1u << 20}) {
    FakeLane lane;
    RingMerger merger;
    merger.add(lane.view());
    lane.put_io(1, 0, "abc");
    lane.put_io(2, 3, "def");
    reinterpret_cast<olly_record*>(lane.data)->size = size;
    Recorder sink;
    EXPECT_EQ(merger.drain(10, 10, sink), 0u);
    EXPECT_EQ(merger.bad_records(), 1u);
    EXPECT_TRUE(merger.empty());
    lane.put_io(3, 6, "ghi");
    merger.drain(10, 10, sink);
    EXPECT_EQ(sink.text, "io 6+3 ghi\n");
  }
}

TEST(RingMerger, OfOneMomentTheFirstSourceComesFirst) {
  FakeLane lane;
  FakeRing ring;
  lane.put_io(10, 0, "abc");
  ring.put_close(10, 1);
  RingMerger merger;
  merger.add(ring.view());
  merger.add(lane.view());
  Recorder sink;
  merger.drain(10, 10, sink);
  EXPECT_EQ(sink.text, "1@10 io 0+3 abc\n");
}

}  // namespace
}  // namespace olly
