// A program's region, written by the test as libolly.so would, and as nobody should.
#include "hook/socket/region.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <random>

#include "hook/decode.h"

namespace olly::preload {
namespace {

constexpr std::uint32_t kSlots = 4;
constexpr std::uint32_t kRing = OLLY_PRELOAD_RING_SMALLEST;
constexpr std::uint32_t kPolicies = 16;
constexpr std::uint64_t kSlotsAt = OLLY_PRELOAD_HEADER_BYTES + kPolicies * sizeof(olly_policy);
constexpr std::uint64_t kRingsAt = kSlotsAt + kSlots * sizeof(olly_preload_slot);
constexpr std::uint64_t kSize = kRingsAt + std::uint64_t{kSlots} * kRing;

// The program's side.
struct Memory {
  UniqueFd fd;
  std::uint8_t* at = nullptr;

  explicit Memory(std::uint64_t size = kSize, int seals = F_SEAL_SHRINK | F_SEAL_GROW)
      : fd(::memfd_create("test", MFD_ALLOW_SEALING | MFD_CLOEXEC)) {
    EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size)), 0);
    EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, seals), 0);
    at = static_cast<std::uint8_t*>(
        ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
    header().magic = OLLY_PRELOAD_MAGIC;
    header().version = OLLY_PRELOAD_VERSION;
    header().slots = kSlots;
    header().ring_bytes = kRing;
    header().policies = kPolicies;
  }
  ~Memory() { ::munmap(at, kSize); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  olly_preload_header& header() { return *reinterpret_cast<olly_preload_header*>(at); }
  olly_preload_slot& slot(std::uint32_t i) {
    return reinterpret_cast<olly_preload_slot*>(at + kSlotsAt)[i];
  }
  std::uint8_t* ring(std::uint32_t i) { return at + kRingsAt + std::uint64_t{i} * kRing; }

  // One record of this size in all, at the head of slot 0.
  void write(std::uint16_t type, std::uint32_t size, std::uint64_t time) {
    const olly_record r{type, 0, size, time};
    std::memcpy(ring(0) + (slot(0).head & (kRing - 1)), &r, sizeof r);
    slot(0).head += size;
  }
};

std::string refusal(const Memory& memory) {
  const auto region = Region::take(memory.fd);
  return region ? "" : region.error().message;
}

TEST(Region, TakesOnlyMemoryThatCannotGoAway) {
  EXPECT_EQ(refusal(Memory()), "");
  EXPECT_EQ(refusal(Memory(kSize, F_SEAL_GROW)), "the region is not sealed");
  EXPECT_EQ(refusal(Memory(100)), "the region has 100 bytes");
  const UniqueFd null(::open("/dev/null", O_RDWR));
  EXPECT_FALSE(Region::take(null));
  const UniqueFd none;
  EXPECT_FALSE(Region::take(none));
}

TEST(Region, RefusesALayoutThatDoesNotFit) {
  const auto with = [](auto change) {
    Memory memory;
    change(memory.header());
    return refusal(memory);
  };
  EXPECT_EQ(with([](auto& h) { h.magic = 1; }), "the region is not libolly.so's");
  EXPECT_NE(with([](auto& h) { h.version = 9; }).find("another version: 9"), std::string::npos);
  for (const std::uint32_t wrong : {0u, 1u, 12345u, 0x80000000u}) {
    EXPECT_EQ(with([wrong](auto& h) { h.ring_bytes = wrong; }),
              "the region's layout makes no sense");
  }
  EXPECT_EQ(with([](auto& h) { h.policies = 3; }), "the region's layout makes no sense");
  EXPECT_EQ(with([](auto& h) { h.slots = 0; }), "the region's layout makes no sense");
  EXPECT_EQ(with([](auto& h) { h.slots = 1000; }), "the region is smaller than its layout");
  EXPECT_EQ(with([](auto& h) { h.slots = ~0u; }), "the region's layout makes no sense");
}

TEST(SlotReader, ReadsAroundTheRingsEnd) {
  Memory memory;
  const auto region = *Region::take(memory.fd);
  SlotReader reader(*region, 0);
  EXPECT_TRUE(reader.peek().empty());
  std::uint64_t time = 0;
  for (int round = 0; round < 100; ++round) {
    // 4,096 does not divide what is left behind a pad: the end is met at every offset.
    for (const std::uint32_t size : {96u, 4096u, 1040u}) {
      const std::uint64_t rest = kRing - (memory.slot(0).head & (kRing - 1));
      if (size > rest) memory.write(OLLY_REC_PAD, static_cast<std::uint32_t>(rest), 0);
      memory.write(OLLY_REC_IO, size, ++time);
      ASSERT_EQ(reader.peek().size(), size);
      EXPECT_EQ(reader.time(), time);
      EXPECT_EQ(reader.peek().size(), size) << "the same one until it is popped";
      reader.pop();
      reader.release();
      EXPECT_EQ(memory.slot(0).tail, memory.slot(0).head);
    }
  }
  EXPECT_EQ(reader.bad(), 0u);
}

TEST(SlotReader, GoesOnBehindWhatCannotBeRight) {
  Memory memory;
  const auto region = *Region::take(memory.fd);
  SlotReader reader(*region, 0);
  std::uint64_t bad = 0;
  for (const std::uint32_t size : {0u, 8u, 24u, 100u, 40000u, 0xffffffffu}) {
    const olly_record r{OLLY_REC_IO, 0, size, 1};
    std::memcpy(memory.ring(0) + (memory.slot(0).head & (kRing - 1)), &r, sizeof r);
    memory.slot(0).head += 96;
    EXPECT_TRUE(reader.peek().empty());
    EXPECT_EQ(reader.bad(), ++bad);
  }
  memory.write(OLLY_REC_EXEC, 208, 1);  // the kernel says such things, no program
  EXPECT_TRUE(reader.peek().empty());
  EXPECT_EQ(reader.bad(), ++bad);
  for (const std::uint64_t jump : {std::uint64_t{kRing} * 5, std::uint64_t{7}, ~std::uint64_t{0}}) {
    memory.slot(0).head += jump;
    EXPECT_TRUE(reader.peek().empty());
    EXPECT_EQ(reader.bad(), ++bad);
    memory.slot(0).head = memory.slot(0).tail;
  }
  memory.write(OLLY_REC_CLOSE, 48, 5);
  EXPECT_EQ(reader.peek().size(), 48u) << "what is right again is read again";
}

TEST(Region, CountsNeverFall) {
  Memory memory;
  const auto region = *Region::take(memory.fd);
  memory.header().drops[OLLY_PRELOAD_RING_FULL] = 7;
  EXPECT_EQ(region->drops(OLLY_PRELOAD_RING_FULL), 7u);
  memory.header().drops[OLLY_PRELOAD_RING_FULL] = 2;
  EXPECT_EQ(region->drops(OLLY_PRELOAD_RING_FULL), 7u);
  memory.header().used_slots = 1000;
  EXPECT_EQ(region->used_slots(), kSlots);
}

class Ignore final : public EventSink {
 public:
  void on_process(const ProcessEvent&) noexcept override {}
  void on_connect(const ConnectEvent&) noexcept override {}
  void on_open(const OpenEvent&) noexcept override {}
  void on_io(const IoEvent& e) noexcept override { bytes += e.payload.size(); }
  void on_close(const CloseEvent&) noexcept override {}
  void on_advance(Nanos) noexcept override {}
  std::uint64_t bytes = 0;
};

TEST(SlotReader, SurvivesRandomMemory) {
  Memory memory;
  const auto region = *Region::take(memory.fd);
  SlotReader reader(*region, 0);
  std::mt19937_64 random(4);
  Ignore sink;
  for (int round = 0; round < 3000; ++round) {
    for (int i = 0; i < 200; ++i) memory.ring(0)[random() % kRing] = static_cast<uint8_t>(random());
    // Often enough a record that begins well.
    const std::uint64_t at = memory.slot(0).tail & (kRing - 1);
    const olly_record r{static_cast<olly_u16>(random() % 9), 0,
                        static_cast<olly_u32>(random() % 2048 * 16), random()};
    if (at + sizeof r <= kRing) std::memcpy(memory.ring(0) + at, &r, sizeof r);
    memory.slot(0).head = memory.slot(0).tail + random() % (kRing + 64) / 16 * 16;
    for (int i = 0; i < 10 && !reader.peek().empty(); ++i) {
      decode_record(reader.peek(), 1, sink);
      reader.pop();
    }
    reader.release();
  }
  EXPECT_GT(reader.bad(), 0u);
}

}  // namespace
}  // namespace olly::preload
