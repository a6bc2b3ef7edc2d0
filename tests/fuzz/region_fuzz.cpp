// Fuzz target: a program's shared region, written by somebody who means harm while the agent reads.
// The input is a script of steps: bytes anywhere in the region, a record that begins well with
// anything behind it, a position of a thread's ring, a look by the agent. What the reader lets
// through goes the whole way of a program's words: decoding, the gate beside the kernel and without
// it, the policy table. Nothing outside the region is read, sizes are what they were checked to be,
// and the agent always gets on.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "hook/decode.h"
#include "hook/socket/gate.h"
#include "hook/socket/region.h"

namespace {

using namespace olly;
using namespace olly::preload;

constexpr std::uint32_t kSlots = 2;
constexpr std::uint32_t kRing = OLLY_PRELOAD_RING_SMALLEST;
constexpr std::uint32_t kPolicies = 16;
constexpr std::uint64_t kSlotsAt = OLLY_PRELOAD_HEADER_BYTES + kPolicies * sizeof(olly_policy);
constexpr std::uint64_t kRingsAt = kSlotsAt + kSlots * sizeof(olly_preload_slot);
constexpr std::uint64_t kSize = kRingsAt + std::uint64_t{kSlots} * kRing;

void check(bool ok) {
  if (!ok) std::abort();
}

class Bytes final : public EventSink {
 public:
  void on_process(const ProcessEvent&) noexcept override { std::abort(); }  // no program says such
  void on_connect(const ConnectEvent& e) noexcept override { check(e.task.pid == 7); }
  void on_open(const OpenEvent& e) noexcept override {
    check(e.task.pid == 7 && !e.own && e.path.size() <= 120);
  }
  void on_io(const IoEvent& e) noexcept override {
    check(e.task.pid == 7 && e.payload.size() <= e.length);
    for (const std::uint8_t b : e.payload) sum += b;
  }
  void on_close(const CloseEvent&) noexcept override {}
  void on_advance(Nanos) noexcept override {}
  volatile unsigned sum = 0;
};

class Kernel final : public KernelSockets {
 public:
  bool claim(SocketId cookie, Program&) noexcept override { return cookie % 2 == 0; }
  void unclaim(SocketId) noexcept override {}
  bool observed(std::uint32_t) const noexcept override { return true; }
};

// One for the whole run: a region is made anew for each input, its memory is not.
struct Memory {
  UniqueFd fd{::memfd_create("fuzz", MFD_ALLOW_SEALING | MFD_CLOEXEC)};
  std::uint8_t* at = nullptr;

  Memory() {
    check(::ftruncate(fd.get(), static_cast<off_t>(kSize)) == 0);
    check(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
    at = static_cast<std::uint8_t*>(
        ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
  }
  void begin() const {
    std::memset(at, 0, kSize);
    auto& h = *reinterpret_cast<olly_preload_header*>(at);
    h.magic = OLLY_PRELOAD_MAGIC;
    h.version = OLLY_PRELOAD_VERSION;
    h.slots = kSlots;
    h.ring_bytes = kRing;
    h.policies = kPolicies;
    h.used_slots = kSlots;
  }
  olly_preload_slot& slot(std::uint32_t i) const {
    return reinterpret_cast<olly_preload_slot*>(at + kSlotsAt)[i];
  }
};

struct Script {
  const std::uint8_t* data;
  std::size_t left;

  std::uint64_t number(std::size_t bytes) {
    std::uint64_t n = 0;
    std::memcpy(&n, data, std::min(bytes, left));
    advance(bytes);
    return n;
  }
  void advance(std::size_t n) {
    data += std::min(n, left);
    left -= std::min(n, left);
  }
  void write(std::uint8_t* to, std::size_t most) {
    const std::size_t n = std::min(most, left);
    if (n > 0) std::memcpy(to, data, n);
    advance(n);
  }
};

void look(SlotReader& reader, Region& region, Program& program, Gate& gate, EventSink& sink) {
  check(region.used_slots() <= kSlots);
  for (int i = 0; i < 4096; ++i) {
    const ByteView record = reader.peek();
    if (record.empty()) break;
    check(record.size() >= sizeof(olly_record) && record.size() <= kRing);
    gate.enter(program, sink);
    decode_record(record, reader.time(), gate);
    reader.pop();
  }
  reader.release();
  region.beat(1);
  region.drops(OLLY_PRELOAD_RING_FULL);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Memory memory;
  memory.begin();
  Script script{data, size};
  const auto region = Region::take(memory.fd);
  check(region.has_value());
  Kernel kernel;
  Gate gate(42, script.number(1) % 2 == 0 ? nullptr : &kernel);
  Bytes sink;
  Program program;
  program.pid = 7;
  program.policy = PolicyTable((*region)->policies(), OLLY_PRELOAD_MAX_COPY);
  std::array<SlotReader, kSlots> readers{SlotReader(**region, 0), SlotReader(**region, 1)};
  while (script.left > 0) {
    const auto step = static_cast<std::uint8_t>(script.number(1));
    const std::uint32_t i = step / 8 % kSlots;
    olly_preload_slot& slot = memory.slot(i);
    std::uint8_t* ring = memory.at + kRingsAt + std::uint64_t{i} * kRing;
    switch (step % 8) {
      case 0: {  // anywhere
        const std::uint64_t at = script.number(4) % kSize;
        script.write(memory.at + at, std::min<std::uint64_t>(step % 64 + 1, kSize - at));
        break;
      }
      case 1:
        slot.head = script.number(8);
        break;
      case 2:
        slot.head += script.number(2);
        break;
      case 3:
        slot.tail = script.number(8);
        break;
      case 4:
        look(readers[i], **region, program, gate, sink);
        break;
      case 5:
        gate.leave(program, sink, 1);
        break;
      default: {  // a record
        const std::uint64_t at = slot.head & (kRing - 1);
        const olly_record r{static_cast<olly_u16>(script.number(1) % 11), 0,
                            static_cast<olly_u32>(script.number(1) * 16), script.number(2)};
        if (at + sizeof r <= kRing) std::memcpy(ring + at, &r, sizeof r);
        if (at + 80 <= kRing) script.write(ring + at + sizeof r, 64);
        slot.head += r.size;
        if (step & 64) look(readers[i], **region, program, gate, sink);
      }
    }
  }
  for (SlotReader& reader : readers) look(reader, **region, program, gate, sink);
  gate.leave(program, sink, 2);
  check(gate.sockets() == 0 && program.sockets.empty());
  return 0;
}
