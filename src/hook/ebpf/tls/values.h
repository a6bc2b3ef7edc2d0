// Where a function keeps its arguments: what the registers and the words of its stack frame hold
// before each instruction, as far as the code shows it. What two ways to an instruction see
// differently is not known there.
//
// Taken for granted, as compilers do: the words of a frame change by instructions that name the
// stack pointer, or through an address that was taken of them.
#pragma once

#include <array>
#include <cstdint>
#include <map>

#include "hook/ebpf/tls/code.h"

namespace olly::tls {

struct Value {
  // returned: by the call at the address `number`, whose copies are known for that; none: 0 or
  // less, which as a result says that nothing was moved.
  enum class Kind : std::uint8_t { unknown, argument, constant, returned, none };
  Kind kind = Kind::unknown;
  std::uint32_t number = 0;  // of an argument, from 0 on; of a constant its lower half
  bool operator==(const Value&) const = default;
  static Value argument(std::uint32_t n) { return {Kind::argument, n}; }
  static Value constant(std::uint32_t n) { return {Kind::constant, n}; }
  bool known() const noexcept { return kind != Kind::unknown; }
  bool is_none() const noexcept {
    return kind == Kind::none || (kind == Kind::constant && static_cast<std::int32_t>(number) <= 0);
  }
};

using Registers = std::array<Value, 16>;

struct Frame {
  bool placed = true;   // where the stack pointer is, is known
  std::int64_t sp = 0;  // against what it was at entry
  Registers registers{};
  std::map<std::int64_t, Value>
      words;  // by address, against the stack pointer at entry; known ones
  // The last instruction compared a register with a constant.
  std::int8_t compared = kNoRegister;
  std::uint32_t with = 0;
  bool operator==(const Frame&) const = default;
};

class Values {
 public:
  // False: too much work.
  bool explore(const ElfFile& file, const Flow& flow, const Registers& at_entry);
  // Nothing: control does not come there.
  const Frame* before(std::uint64_t address) const noexcept;
  // What is known at `to` by this way alone: right behind `i`.
  Frame along(const Instruction& i, std::uint64_t to) const;

 private:
  const ElfFile* file_ = nullptr;
  std::map<std::uint64_t, Frame> before_;
};

}  // namespace olly::tls
