// Machine code as the site finder sees it: instructions, where control goes from them, which of the
// registers that carry arguments and results they change, and whether the kernel emulates them
// (arch/x86/kernel/uprobes.c: a uprobe there costs a fourteenth of one that is single-stepped).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "hook/ebpf/tls/elf_file.h"

namespace olly::tls {

// General registers by their machine numbers: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
// Sets of them are bits.
inline constexpr std::uint32_t kRax = 1 << 0, kRcx = 1 << 1, kRdx = 1 << 2, kRsi = 1 << 6,
                               kRdi = 1 << 7;
inline constexpr std::int8_t kNoRegister = -1;

struct Instruction {
  enum class Kind : std::uint8_t { plain, branch, jump, call, ret, indirect_jump, end };
  std::uint64_t address = 0;
  std::uint64_t target = 0;  // of branch, jump and call; 0 = not known
  std::uint32_t writes = 0;
  std::uint8_t length = 0;
  Kind kind = Kind::plain;  // end: control never comes back from here (a call that does not return)
  bool emulated = false;
  // A load from memory by a register: what an indirect jump may take its target from.
  bool loads = false;
  std::int64_t displacement = 0;
  std::int8_t destination = kNoRegister;  // of a load or a copy; what an indirect jump goes by
  std::int8_t copied = kNoRegister;       // `destination` is a copy of this one
  std::uint8_t condition = 0;             // of a branch: the machine's code, 0 to 15
  // A call or a jump through a table: `displacement` is where in it; a register has its address.
  bool by_table = false;
  std::int8_t tested = kNoRegister;  // whole, whether it is 0: what a branch behind it goes by
  // Of a branch: it is not taken, since no function is called for the object NULL.
  bool never = false;
  bool constant = false;  // `destination` becomes `value`
  std::int32_t value = 0;
  bool stores_whole = false;  // eight bytes, right where a register that is not the stack's points
  // What it does to the stack pointer, or to the frame pointer as a copy of that one.
  enum class Stack : std::uint8_t { kept, moved, from_frame, to_frame, frame_lost, lost };
  Stack stack = Stack::kept;
  std::int32_t by = 0;  // moved: bytes down; from_frame: the new place, above the frame pointer
  // Before it: bytes on the stack above its pointer since the function was entered; negative: not
  // known. The same on whatever way control came here.
  std::int32_t depth = -1;
  std::uint64_t next() const noexcept { return address + length; }
};

class Decoder {
 public:
  explicit Decoder(const ElfFile& file);
  // False: no code there, or none that is known.
  bool decode(std::uint64_t address, Instruction& out) const;

 private:
  std::string_view import_of(std::uint64_t stub) const;
  const ElfFile& file_;
};

// The instructions that control reaches from a function's entry, calls passed over, tail jumps
// followed; those through a table are asked of `resolve`.
class Flow {
 public:
  using Resolve = std::uint64_t (*)(const void* context, std::int64_t displacement);
  // False: the function is too large, or leads into what is no code. `size`, where it is known: a
  // jump through a register that nobody can resolve may go anywhere within it (a switch).
  bool explore(const Decoder& decoder, std::uint64_t entry, Resolve resolve, const void* context,
               std::uint64_t size = 0);

  std::uint64_t entry() const noexcept { return entry_; }
  const std::map<std::uint64_t, Instruction>& instructions() const noexcept {
    return instructions_;
  }
  // Where control may go next; empty behind ret and end.
  std::vector<std::uint64_t> successors(const Instruction& i) const;
  const std::string& reason() const noexcept { return reason_; }

 private:
  void measure();
  bool straight(const Decoder& decoder, std::uint64_t at, Resolve resolve, const void* context,
                std::vector<std::uint64_t>& todo);

  std::uint64_t entry_ = 0;
  std::uint64_t end_ = 0;  // behind the function, where its size is known
  std::map<std::uint64_t, Instruction> instructions_;
  std::vector<std::uint64_t> anywhere_;  // where a switch may go
  std::string reason_;
};

}  // namespace olly::tls
