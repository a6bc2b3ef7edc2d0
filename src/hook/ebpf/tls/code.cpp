#include "hook/ebpf/tls/code.h"

#include <fmt/format.h>

#include <algorithm>

#include "hook/ebpf/tls/zydis.h"

namespace olly::tls {
namespace {

constexpr std::size_t kMaxInstructions = 6000;
constexpr std::uint8_t kEqual = 4;  // the machine's condition code
// Functions that do not return, as far as TLS libraries call them.
constexpr std::string_view kNoReturn[] = {
    "__stack_chk_fail", "abort", "exit", "_exit", "__assert_fail", "__fortify_fail", "__chk_fail"};

// branch_setup_xol_ops and push_setup_xol_ops. Longer nops are emulated by newer kernels only.
bool emulated(const ZydisDecodedInstruction& i, ByteView bytes) noexcept {
  if (i.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE) return false;
  const std::uint8_t first = bytes[0];
  if (i.length == 1) return first == 0x90 || (first >= 0x50 && first <= 0x57);
  if (i.length == 2 && first == 0x41) return bytes[1] >= 0x50 && bytes[1] <= 0x57;
  if (i.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT) {
    return i.opcode == 0xeb || i.opcode == 0xe9 || i.opcode == 0xe8 ||
           (i.opcode >= 0x70 && i.opcode <= 0x7f);
  }
  return i.opcode_map == ZYDIS_OPCODE_MAP_0F && i.opcode >= 0x80 && i.opcode <= 0x8f;
}

std::uint64_t target_of(const Decoded& d, std::uint64_t address) noexcept {
  for (std::size_t n = 0; n < d.i.operand_count_visible; ++n) {
    const ZydisDecodedOperand& o = d.operands[n];
    if (o.type == ZYDIS_OPERAND_TYPE_IMMEDIATE && o.imm.is_relative) {
      return address + d.i.length + static_cast<std::uint64_t>(o.imm.value.s);
    }
  }
  return 0;
}

std::uint32_t writes_of(const Decoded& d) noexcept {
  std::uint32_t writes = 0;
  for (std::size_t n = 0; n < d.i.operand_count; ++n) {
    const ZydisDecodedOperand& o = d.operands[n];
    if (o.type == ZYDIS_OPERAND_TYPE_REGISTER && (o.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)) {
      writes |= bit_of(number_of(o.reg.value));
    }
  }
  return writes;
}

bool whole_or_half(const ZydisDecodedOperand& o) noexcept { return o.size >= 32; }

// By a register alone, neither the stack's nor the program counter.
bool by_register(const ZydisDecodedOperand& o) noexcept {
  return o.type == ZYDIS_OPERAND_TYPE_MEMORY && o.mem.index == ZYDIS_REGISTER_NONE &&
         o.mem.base != ZYDIS_REGISTER_RIP && o.mem.base != ZYDIS_REGISTER_RSP &&
         o.mem.disp.has_displacement;
}

void note_move(const Decoded& d, Instruction& out) noexcept {
  const ZydisDecodedOperand& to = d.operands[0];
  const ZydisDecodedOperand& from = d.operands[1];
  if (to.type == ZYDIS_OPERAND_TYPE_MEMORY) {
    const ZydisRegister base = to.mem.base;
    out.stores_whole = to.size == 64 && to.mem.index == ZYDIS_REGISTER_NONE &&
                       base != ZYDIS_REGISTER_RSP && base != ZYDIS_REGISTER_RIP &&
                       (!to.mem.disp.has_displacement || to.mem.disp.value == 0);
  }
  if (to.type != ZYDIS_OPERAND_TYPE_REGISTER || !whole_or_half(to)) return;
  if (from.type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
    out.constant = true;
    out.destination = number_of(to.reg.value);
    out.value = static_cast<std::int32_t>(from.imm.value.s);
    return;
  }
  if (from.type == ZYDIS_OPERAND_TYPE_REGISTER) {
    out.destination = number_of(to.reg.value);
    out.copied = number_of(from.reg.value);
    return;
  }
  if (!by_register(from)) return;
  out.loads = true;
  out.destination = number_of(to.reg.value);
  out.displacement = from.mem.disp.value;
}

// `xor r, r`, `or $-1, r` and `test r, r`.
void note_same(const Decoded& d, Instruction& out) noexcept {
  const ZydisDecodedOperand& a = d.operands[0];
  const ZydisDecodedOperand& b = d.operands[1];
  if (a.type != ZYDIS_OPERAND_TYPE_REGISTER || !whole_or_half(a)) return;
  const bool same = b.type == ZYDIS_OPERAND_TYPE_REGISTER && a.reg.value == b.reg.value;
  const bool ones = b.type == ZYDIS_OPERAND_TYPE_IMMEDIATE && b.imm.value.s == -1;
  if (d.i.mnemonic == ZYDIS_MNEMONIC_TEST && same && a.size == 64) {
    out.tested = number_of(a.reg.value);
  } else if ((d.i.mnemonic == ZYDIS_MNEMONIC_XOR && same) ||
             (d.i.mnemonic == ZYDIS_MNEMONIC_OR && ones)) {
    out.constant = true;
    out.destination = number_of(a.reg.value);
    out.value = ones ? -1 : 0;
  }
}

constexpr std::int8_t kSp = 4, kBp = 5;

bool is(const ZydisDecodedOperand& o, std::int8_t number) noexcept {
  return o.type == ZYDIS_OPERAND_TYPE_REGISTER && o.size == 64 && number_of(o.reg.value) == number;
}

bool is_address(const ZydisDecodedOperand& o, ZydisRegister base) noexcept {
  return o.type == ZYDIS_OPERAND_TYPE_MEMORY && o.mem.base == base &&
         o.mem.index == ZYDIS_REGISTER_NONE;
}

void note_stack(const Decoded& d, Instruction& out) noexcept {
  using Stack = Instruction::Stack;
  const ZydisDecodedOperand& a = d.operands[0];
  const ZydisDecodedOperand& b = d.operands[1];
  const auto set = [&](Stack stack, std::int64_t by) {
    out.stack = stack;
    out.by = static_cast<std::int32_t>(by);
  };
  const bool constant = b.type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
  switch (d.i.mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
      return set(Stack::moved, 8);
    case ZYDIS_MNEMONIC_POP:
      // The frame pointer is its caller's again.
      return is(a, kSp) ? set(Stack::lost, 0) : set(Stack::moved, -8);
    case ZYDIS_MNEMONIC_LEAVE:
      return set(Stack::from_frame, 8);
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_ADD:
      if (!is(a, kSp)) break;
      if (!constant) return set(Stack::lost, 0);
      return set(Stack::moved, d.i.mnemonic == ZYDIS_MNEMONIC_SUB ? b.imm.value.s : -b.imm.value.s);
    case ZYDIS_MNEMONIC_LEA:
      if (is(a, kSp) && is_address(b, ZYDIS_REGISTER_RSP))
        return set(Stack::moved, -b.mem.disp.value);
      if (is(a, kSp) && is_address(b, ZYDIS_REGISTER_RBP))
        return set(Stack::from_frame, b.mem.disp.value);
      break;
    case ZYDIS_MNEMONIC_MOV:
      if (is(a, kBp) && is(b, kSp)) return set(Stack::to_frame, 0);
      if (is(a, kSp) && is(b, kBp)) return set(Stack::from_frame, 0);
      break;
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_RET:
      return;
    default:
      break;
  }
  if ((out.writes & 1u << kSp) != 0)
    set(Stack::lost, 0);
  else if ((out.writes & 1u << kBp) != 0)
    set(Stack::frame_lost, 0);
}

}  // namespace

Decoder::Decoder(const ElfFile& file) : file_(file) {}

// `endbr64` or nothing, then a jump through the GOT.
std::string_view Decoder::import_of(std::uint64_t stub) const {
  for (int n = 0; n < 2; ++n) {
    const ByteView bytes = file_.code(stub);
    Decoded d;
    if (bytes.empty() || !decode_one(bytes, d)) return {};
    if (d.i.mnemonic == ZYDIS_MNEMONIC_ENDBR64) {
      stub += d.i.length;
      continue;
    }
    if (d.i.mnemonic != ZYDIS_MNEMONIC_JMP || d.i.operand_count_visible != 1) return {};
    const ZydisDecodedOperand& o = d.operands[0];
    if (o.type != ZYDIS_OPERAND_TYPE_MEMORY || o.mem.base != ZYDIS_REGISTER_RIP) return {};
    return file_.import_at(stub + d.i.length + static_cast<std::uint64_t>(o.mem.disp.value));
  }
  return {};
}

bool Decoder::decode(std::uint64_t address, Instruction& out) const {
  const ByteView bytes = file_.code(address);
  Decoded d;
  if (bytes.empty() || !decode_one(bytes, d)) return false;
  out = {};
  out.address = address;
  out.length = d.i.length;
  out.writes = writes_of(d);
  note_stack(d, out);
  out.emulated = emulated(d.i, bytes);
  using Kind = Instruction::Kind;
  switch (d.i.meta.category) {
    case ZYDIS_CATEGORY_COND_BR:
      out.kind = Kind::branch;
      out.target = target_of(d, address);
      out.condition = d.i.opcode & 15;
      return out.target != 0;
    case ZYDIS_CATEGORY_UNCOND_BR:
      out.target = target_of(d, address);
      out.kind = out.target != 0 ? Kind::jump : Kind::indirect_jump;
      if (out.target == 0 && d.operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER) {
        out.destination = number_of(d.operands[0].reg.value);
      }
      return true;
    case ZYDIS_CATEGORY_CALL:
      out.kind = Kind::call;
      out.target = target_of(d, address);
      out.writes = kCallerSaved;
      if (out.target != 0) {
        const std::string_view name = import_of(out.target);
        if (std::find(std::begin(kNoReturn), std::end(kNoReturn), name) != std::end(kNoReturn)) {
          out.kind = Kind::end;
        }
      } else if (by_register(d.operands[0])) {
        out.by_table = true;
        out.displacement = d.operands[0].mem.disp.value;
      }
      return true;
    case ZYDIS_CATEGORY_RET:
      out.kind = Kind::ret;
      return true;
    default:
      break;
  }
  if (d.i.mnemonic == ZYDIS_MNEMONIC_UD2 || d.i.mnemonic == ZYDIS_MNEMONIC_HLT) {
    out.kind = Kind::end;
  }
  if (d.i.mnemonic == ZYDIS_MNEMONIC_MOV) note_move(d, out);
  if (d.i.mnemonic == ZYDIS_MNEMONIC_XOR || d.i.mnemonic == ZYDIS_MNEMONIC_OR ||
      d.i.mnemonic == ZYDIS_MNEMONIC_TEST) {
    note_same(d, out);
  }
  return true;
}

std::vector<std::uint64_t> Flow::successors(const Instruction& i) const {
  using Kind = Instruction::Kind;
  switch (i.kind) {
    case Kind::plain:
    case Kind::call:
      return {i.next()};
    case Kind::branch:
      if (i.never) return {i.next()};
      return {i.next(), i.target};
    case Kind::jump:
      return {i.target};
    case Kind::indirect_jump:
      if (i.target != 0) return {i.target};
      if (i.address >= entry_ && i.address < end_) return anywhere_;
      return {};
    case Kind::ret:
    case Kind::end:
      return {};
  }
  return {};
}

bool Flow::explore(const Decoder& decoder, std::uint64_t entry, Resolve resolve,
                   const void* context, std::uint64_t size) {
  entry_ = entry;
  end_ = 0;
  instructions_.clear();
  anywhere_.clear();
  std::vector<std::uint64_t> todo{entry};
  const auto reach_all = [&] {
    while (!todo.empty()) {
      const std::uint64_t at = todo.back();
      todo.pop_back();
      if (!straight(decoder, at, resolve, context, todo)) return false;
    }
    return true;
  };
  if (!reach_all()) return false;
  const bool switches = std::any_of(instructions_.begin(), instructions_.end(), [&](const auto& i) {
    return i.second.kind == Instruction::Kind::indirect_jump && i.second.target == 0 &&
           i.first >= entry && i.first - entry < size;
  });
  if (!switches) {
    measure();
    return true;
  }
  // Code that a compiler has laid out has nothing but instructions between begin and end.
  end_ = entry + size;
  Instruction i;
  for (std::uint64_t at = entry; at < end_; at = i.next()) {
    if (!decoder.decode(at, i)) {
      reason_ = fmt::format("no known code at {:#x}", at);
      return false;
    }
    anywhere_.push_back(at);
  }
  todo = anywhere_;
  if (!reach_all()) return false;
  measure();
  return true;
}

// From `at` on, as far as control goes on without a choice; the other ways are for later.
bool Flow::straight(const Decoder& decoder, std::uint64_t at, Resolve resolve, const void* context,
                    std::vector<std::uint64_t>& todo) {
  bool object = at == entry_ && instructions_.empty();  // still in its register
  std::int8_t tested = kNoRegister;
  // Loads of this stretch, by register.
  std::map<std::int8_t, std::int64_t> loaded;
  while (!instructions_.contains(at)) {
    Instruction i;
    if (!decoder.decode(at, i)) {
      reason_ = fmt::format("no known code at {:#x}", at);
      return false;
    }
    if (instructions_.size() >= kMaxInstructions) {
      reason_ = "the function is too large";
      return false;
    }
    std::erase_if(loaded, [&](const auto& l) { return (bit_of(l.first) & i.writes) != 0; });
    if (i.loads) loaded[i.destination] = i.displacement;
    i.never = object && i.kind == Instruction::Kind::branch && i.condition == kEqual &&
              bit_of(tested) == kRdi;
    tested = i.tested;
    object = object && (i.writes & kRdi) == 0;
    if (i.kind == Instruction::Kind::indirect_jump) {
      const auto from = loaded.find(i.destination);
      if (from != loaded.end()) {
        if (resolve != nullptr) i.target = resolve(context, from->second);
        i.by_table = true;
        i.displacement = from->second;
      }
    }
    instructions_[at] = i;
    const auto next = successors(i);
    if (next.empty() || i.kind == Instruction::Kind::indirect_jump) {
      if (i.target != 0 && i.kind == Instruction::Kind::indirect_jump) todo.push_back(i.target);
      break;
    }
    if (next.size() > 1) todo.push_back(next[1]);
    at = next[0];
  }
  return true;
}

// How deep the stack is at each instruction, by all ways there; they agree in compiled code.
void Flow::measure() {
  constexpr std::int32_t kUnknown = -1, kMost = 1 << 20;
  struct State {
    std::int32_t depth, frame;  // the frame pointer's, where it is a copy
    bool operator==(const State&) const = default;
  };
  std::map<std::uint64_t, State> known{{entry_, {0, kUnknown}}};
  std::vector<std::uint64_t> todo{entry_};
  while (!todo.empty()) {
    const Instruction& i = instructions_.at(todo.back());
    todo.pop_back();
    State after = known.at(i.address);
    switch (i.stack) {
      case Instruction::Stack::kept:
        break;
      case Instruction::Stack::moved:
        if (after.depth != kUnknown) after.depth += i.by;
        if (i.by == -8 && (i.writes & 1u << kBp) != 0) after.frame = kUnknown;  // popped
        break;
      case Instruction::Stack::from_frame:
        after.depth = after.frame == kUnknown ? kUnknown : after.frame - i.by;
        if ((i.writes & 1u << kBp) != 0) after.frame = kUnknown;  // leave
        break;
      case Instruction::Stack::to_frame:
        after.frame = after.depth;
        break;
      case Instruction::Stack::frame_lost:
        after.frame = kUnknown;
        break;
      case Instruction::Stack::lost:
        after.depth = kUnknown;
        break;
    }
    if (after.depth < 0 || after.depth > kMost) after.depth = kUnknown;
    for (const std::uint64_t to : successors(i)) {
      const auto [found, fresh] = known.emplace(to, after);
      State& there = found->second;
      const State before = there;
      if (there.depth != after.depth) there.depth = kUnknown;
      if (there.frame != after.frame) there.frame = kUnknown;
      if (fresh || there != before) todo.push_back(to);
    }
  }
  for (const auto& [at, state] : known) instructions_.at(at).depth = state.depth;
}

}  // namespace olly::tls
