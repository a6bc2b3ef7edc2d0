#include "hook/ebpf/tls/fields.h"

#include <array>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "hook/ebpf/kernel_abi.h"
#include "hook/ebpf/tls/zydis.h"

namespace olly::tls {
namespace {

constexpr int kMaxInstructions = 256;
// An object begins with its type, version, method and BIOs: nothing that is asked for here.
constexpr std::int64_t kFirst = 0x10;
constexpr std::int64_t kLast = 0x7ff8;

struct Place {
  std::int64_t offset = 0;  // 0: none
  std::int64_t behind = 0;
};

// What a register is known to hold: the object, or what the object has at `at`.
struct Known {
  bool object = false;
  std::int64_t at = 0;
};

class Reader {
 public:
  Reader(const ElfFile& file, std::uint64_t entry) : file_(file) {
    Way way{entry, {}};
    way.registers[kObject].object = true;
    ways_.push_back(way);
  }

  // The first address within the object (or within a block that it points to) that the function
  // takes or loads from. `address`: of something that is copied; else of a number.
  Place find(bool address) {
    Place loaded;  // by a whole register: its value, or a pointer to more
    int n = 0;
    while (!ways_.empty()) {
      Way way = ways_.back();
      ways_.pop_back();
      at_ = way.at;
      registers_ = way.registers;
      while (n++ < kMaxInstructions && been_.insert({at_, holders()}).second && step()) {
        if (const auto found = look(address, loaded)) return *found;
        if (!go_on()) break;
      }
    }
    return loaded;
  }

 private:
  std::uint32_t holders() const noexcept {
    std::uint32_t out = 0;
    for (std::size_t r = 0; r < registers_.size(); ++r) {
      if (registers_[r].object || registers_[r].at != 0) out |= 1u << r;
    }
    return out;
  }

  bool step() {
    const ByteView bytes = file_.code(at_);
    return !bytes.empty() && decode_one(bytes, now_);
  }

  // To the next instruction; where there are two, the other one is looked at later. False: the way
  // ends here.
  bool go_on() {
    const ZydisDecodedOperand& o = now_.operands[0];
    const bool direct = o.type == ZYDIS_OPERAND_TYPE_IMMEDIATE && o.imm.is_relative;
    const std::uint64_t next = at_ + now_.i.length;
    const std::uint64_t target = direct ? next + static_cast<std::uint64_t>(o.imm.value.s) : 0;
    at_ = next;
    switch (now_.i.meta.category) {
      case ZYDIS_CATEGORY_RET:
        return false;
      case ZYDIS_CATEGORY_UNCOND_BR:
        at_ = target;
        return direct;
      case ZYDIS_CATEGORY_COND_BR:
        if (direct) ways_.push_back({target, registers_});
        return true;
      case ZYDIS_CATEGORY_CALL:
        for (const std::size_t r : {0, 1, 2, 6, 7, 8, 9, 10, 11}) registers_[r] = {};
        return true;
      default:
        return now_.i.mnemonic != ZYDIS_MNEMONIC_UD2;
    }
  }

  void forget_written() {
    for (int n = 0; n < now_.i.operand_count; ++n) {
      const ZydisDecodedOperand& o = now_.operands[n];
      if (o.type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
      if ((o.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) == 0) continue;
      if (const std::int8_t r = number_of(o.reg.value); r >= 0)
        registers_[static_cast<std::size_t>(r)] = {};
    }
  }

  // The instruction loads a byte, and the next one takes the lowest bit of it (a bit field).
  bool lowest_bit(const ZydisDecodedOperand& from) const {
    const ByteView bytes = file_.code(at_ + now_.i.length);
    Decoded next;
    if (now_.i.mnemonic != ZYDIS_MNEMONIC_MOVZX || from.size != 8 || bytes.empty() ||
        !decode_one(bytes, next) || next.i.mnemonic != ZYDIS_MNEMONIC_AND) {
      return false;
    }
    const ZydisDecodedOperand &to = next.operands[0], &mask = next.operands[1];
    return to.type == ZYDIS_OPERAND_TYPE_REGISTER &&
           number_of(to.reg.value) == number_of(now_.operands[0].reg.value) &&
           mask.type == ZYDIS_OPERAND_TYPE_IMMEDIATE && mask.imm.value.u == 1;
  }

  std::optional<Place> look(bool address, Place& loaded) {
    const ZydisDecodedOperand& to = now_.operands[0];
    const ZydisDecodedOperand& from = now_.operands[1];
    const bool move =
        now_.i.mnemonic == ZYDIS_MNEMONIC_MOV && to.type == ZYDIS_OPERAND_TYPE_REGISTER;
    Known result;
    if (move && from.type == ZYDIS_OPERAND_TYPE_REGISTER) {
      if (const std::int8_t r = number_of(from.reg.value); r >= 0)
        result = registers_[static_cast<std::size_t>(r)];
    }
    for (int n = 0; n < now_.i.operand_count_visible; ++n) {
      const ZydisDecodedOperand& o = now_.operands[n];
      if (o.type != ZYDIS_OPERAND_TYPE_MEMORY || n == 0) continue;  // read or taken, not written
      const std::int8_t base = number_of(o.mem.base);
      if (base < 0 || o.mem.index != ZYDIS_REGISTER_NONE) continue;
      const Known known = registers_[static_cast<std::size_t>(base)];
      const std::int64_t offset = o.mem.disp.has_displacement ? o.mem.disp.value : 0;
      if (offset < kFirst || offset > kLast) continue;
      if (known.at != 0 && address) return Place{known.at, offset};
      if (!known.object) continue;
      if (!address) {
        if ((move && o.size == 32) || lowest_bit(o)) loaded = {offset, 0};
        continue;
      }
      if (!move || o.size != 64) return Place{offset, 0};
      if (loaded.offset == 0) loaded = {offset, 0};
      result.at = offset;
    }
    if (address && now_.i.mnemonic == ZYDIS_MNEMONIC_ADD &&
        to.type == ZYDIS_OPERAND_TYPE_REGISTER && from.type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
        number_of(to.reg.value) >= 0) {
      const Known known = registers_[static_cast<std::size_t>(number_of(to.reg.value))];
      const std::int64_t offset = from.imm.value.s;
      if (offset >= kFirst && offset <= kLast) {
        if (known.object) return Place{offset, 0};
        if (known.at != 0) return Place{known.at, offset};
      }
    }
    forget_written();
    if (move) {
      if (const std::int8_t r = number_of(to.reg.value); r >= 0 && to.size == 64)
        registers_[static_cast<std::size_t>(r)] = result;
    }
    return std::nullopt;
  }

  using Registers = std::array<Known, 16>;
  struct Way {
    std::uint64_t at;
    Registers registers;
  };
  static constexpr std::size_t kObject = 7;  // rdi

  const ElfFile& file_;
  std::vector<Way> ways_;
  std::set<std::pair<std::uint64_t, std::uint32_t>> been_;  // where, with what in which registers
  std::uint64_t at_ = 0;
  Registers registers_{};
  Decoded now_{};
};

std::uint32_t in_units(std::int64_t offset, std::int64_t unit) noexcept {
  return offset % unit == 0 ? static_cast<std::uint32_t>(offset) : 0;
}

}  // namespace

std::uint64_t ObjectFields::cookie() const noexcept {
  return std::uint64_t{random / 8} << OLLY_TLS_RANDOM_SHIFT |
         std::uint64_t{random_behind / 8} << OLLY_TLS_BEHIND_SHIFT |
         std::uint64_t{server / 4} << OLLY_TLS_SERVER_SHIFT;
}

ObjectFields object_fields(const ElfFile& file) {
  ObjectFields out;
  if (const std::uint64_t at = file.function("SSL_get_client_random"); at != 0) {
    const Place place = Reader(file, at).find(true);
    out.random = in_units(place.offset, 8);
    if (out.random != 0 && place.behind != 0) {
      out.random_behind = in_units(place.behind, 8);
      if (out.random_behind == 0) out.random = 0;
    }
  }
  if (const std::uint64_t at = file.function("SSL_is_server"); at != 0)
    out.server = in_units(Reader(file, at).find(false).offset, 4);
  if (out.server > 4 * OLLY_TLS_FIELD_MASK) out.server = 0;
  return out;
}

}  // namespace olly::tls
