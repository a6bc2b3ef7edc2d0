#include "hook/ebpf/tls/code.h"

#include <fmt/format.h>

#include <algorithm>

#include "hook/ebpf/tls/zydis.h"

namespace olly::tls {
namespace {

constexpr std::size_t kMaxInstructions = 6000;
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

void note_move(const Decoded& d, Instruction& out) noexcept {
  const ZydisDecodedOperand& to = d.operands[0];
  const ZydisDecodedOperand& from = d.operands[1];
  if (to.type != ZYDIS_OPERAND_TYPE_REGISTER || !whole_or_half(to)) return;
  if (from.type == ZYDIS_OPERAND_TYPE_REGISTER) {
    out.destination = number_of(to.reg.value);
    out.copied = number_of(from.reg.value);
    return;
  }
  if (from.type != ZYDIS_OPERAND_TYPE_MEMORY || from.mem.index != ZYDIS_REGISTER_NONE ||
      from.mem.base == ZYDIS_REGISTER_RIP || from.mem.base == ZYDIS_REGISTER_RSP ||
      !from.mem.disp.has_displacement) {
    return;
  }
  out.loads = true;
  out.destination = number_of(to.reg.value);
  out.displacement = from.mem.disp.value;
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
  return true;
}

std::vector<std::uint64_t> Flow::successors(const Instruction& i) const {
  using Kind = Instruction::Kind;
  switch (i.kind) {
    case Kind::plain:
    case Kind::call:
      return {i.next()};
    case Kind::branch:
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
  if (!switches) return true;
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
  return reach_all();
}

// From `at` on, as far as control goes on without a choice; the other ways are for later.
bool Flow::straight(const Decoder& decoder, std::uint64_t at, Resolve resolve, const void* context,
                    std::vector<std::uint64_t>& todo) {
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
    if (i.kind == Instruction::Kind::indirect_jump) {
      const auto from = loaded.find(i.destination);
      if (from != loaded.end()) i.target = resolve(context, from->second);
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

}  // namespace olly::tls
