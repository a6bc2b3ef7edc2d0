#include "hook/ebpf/tls/values.h"

#include <iterator>
#include <vector>

#include "hook/ebpf/tls/zydis.h"

namespace olly::tls {
namespace {

constexpr std::size_t kMaxWords = 64;        // of a frame
constexpr std::size_t kMaxSteps = 1u << 17;  // of a function
constexpr std::int64_t kMaxFrame = 1 << 20;  // bytes
// The machine's condition codes; the lowest bit turns one into its opposite.
constexpr std::uint8_t kEqual = 4, kNegative = 8, kNotMore = 14, kOpposite = 1;

bool of_stack(const ZydisDecodedOperand& o) noexcept {
  return o.type == ZYDIS_OPERAND_TYPE_MEMORY && o.mem.base == ZYDIS_REGISTER_RSP;
}

bool is_register(const ZydisDecodedOperand& o) noexcept {
  return o.type == ZYDIS_OPERAND_TYPE_REGISTER;
}

void replace(Frame& f, Value what, Value by) {
  for (Value& v : f.registers) {
    if (v == what) v = by;
  }
  for (auto it = f.words.begin(); it != f.words.end();) {
    if (it->second == what) it->second = by;
    it = it->second.known() ? std::next(it) : f.words.erase(it);
  }
}

// What a branch that is taken, or not, says of the register that was compared before it.
Value told(const Frame& f, std::uint8_t condition) {
  if (condition == kEqual) return Value::constant(f.with);
  if (f.with == 0 && (condition == kNegative || condition == kNotMore)) {
    return {Value::Kind::none, 0};
  }
  return {};
}

// One instruction's effect on a frame.
class Step {
 public:
  Step(Frame& frame, const Decoded& decoded, std::uint64_t address)
      : f_(frame), d_(decoded), address_(address) {}

  void take() {
    const std::int8_t compared = f_.compared;
    f_.compared = kNoRegister;
    switch (d_.i.meta.category) {
      case ZYDIS_CATEGORY_COND_BR:
        f_.compared = compared;  // it changes no flags
        return;
      case ZYDIS_CATEGORY_CALL: {
        const Value result{Value::Kind::returned, static_cast<std::uint32_t>(address_)};
        replace(f_, result, {});  // of the time before
        forget(kCallerSaved);
        f_.registers[0] = result;
        return;
      }
      default:
        break;
    }
    switch (d_.i.mnemonic) {
      case ZYDIS_MNEMONIC_PUSH:
        return push();
      case ZYDIS_MNEMONIC_POP:
        return pop();
      case ZYDIS_MNEMONIC_CMP:
      case ZYDIS_MNEMONIC_TEST:
        return compare();
      case ZYDIS_MNEMONIC_MOV:
        if (move()) return;
        break;
      case ZYDIS_MNEMONIC_ADD:
      case ZYDIS_MNEMONIC_SUB:
      case ZYDIS_MNEMONIC_LEA:
        if (adjust()) return;
        break;
      default:
        break;
    }
    other();
  }

 private:
  const ZydisDecodedOperand& operand(std::size_t n) const noexcept { return d_.operands[n]; }
  std::int64_t address(const ZydisDecodedOperand& o) const noexcept {
    return f_.sp + (o.mem.disp.has_displacement ? o.mem.disp.value : 0);
  }
  bool plain_word(const ZydisDecodedOperand& o) const noexcept {
    return of_stack(o) && f_.placed && o.mem.index == ZYDIS_REGISTER_NONE;
  }

  void lost() {
    f_.placed = false;
    f_.words.clear();
  }

  void place(std::int64_t sp) {
    if (!f_.placed || sp > kMaxFrame || sp < -kMaxFrame) return lost();
    f_.sp = sp;
    f_.words.erase(f_.words.begin(), f_.words.lower_bound(sp));  // below it is nobody's
  }

  void store(std::int64_t at, std::int64_t size, Value v) {
    f_.words.erase(f_.words.lower_bound(at - 7), f_.words.lower_bound(at + size));
    if (v.known() && f_.words.size() < kMaxWords) f_.words[at] = v;
  }

  Value word(std::int64_t at) const {
    const auto found = f_.words.find(at);
    return found == f_.words.end() ? Value() : found->second;
  }

  // Of an argument half is not enough.
  static Value part(Value v, std::uint32_t bits) {
    return bits == 64 || (bits == 32 && v.kind != Value::Kind::argument) ? v : Value();
  }

  void set(ZydisRegister r, Value v) {
    const std::int8_t n = number_of(r);
    if (n != kNoRegister) f_.registers[static_cast<std::size_t>(n)] = v;
  }

  Value of(ZydisRegister r) const {
    const std::int8_t n = number_of(r);
    return n == kNoRegister ? Value() : f_.registers[static_cast<std::size_t>(n)];
  }

  void forget(std::uint32_t registers) {
    for (std::size_t n = 0; n < f_.registers.size(); ++n) {
      if ((registers >> n & 1) != 0) f_.registers[n] = {};
    }
  }

  void push() {
    const Value v = is_register(operand(0)) ? of(operand(0).reg.value) : Value();
    place(f_.sp - 8);
    if (f_.placed) store(f_.sp, 8, v);
  }

  void pop() {
    const Value v = f_.placed ? word(f_.sp) : Value();
    place(f_.sp + 8);
    if (!is_register(operand(0))) return lost();
    if (operand(0).reg.value == ZYDIS_REGISTER_RSP) return lost();
    set(operand(0).reg.value, part(v, operand(0).size));
  }

  void compare() {
    const ZydisDecodedOperand &a = operand(0), &b = operand(1);
    if (!is_register(a) || a.size < 32) return;
    const bool itself = is_register(b) && b.reg.value == a.reg.value;
    if (d_.i.mnemonic == ZYDIS_MNEMONIC_CMP && b.type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
      f_.with = static_cast<std::uint32_t>(b.imm.value.u);
    } else if (d_.i.mnemonic == ZYDIS_MNEMONIC_TEST && itself) {
      f_.with = 0;
    } else {
      return;
    }
    f_.compared = number_of(a.reg.value);
  }

  bool move() {
    const ZydisDecodedOperand &to = operand(0), &from = operand(1);
    if (plain_word(to)) {
      Value v;
      if (is_register(from)) v = part(of(from.reg.value), to.size);
      if (from.type == ZYDIS_OPERAND_TYPE_IMMEDIATE && to.size >= 32) {
        v = Value::constant(static_cast<std::uint32_t>(from.imm.value.u));
      }
      store(address(to), to.size / 8, v);
      return true;
    }
    if (!is_register(to) || to.size < 32 || to.reg.value == ZYDIS_REGISTER_RSP) return false;
    if (is_register(from)) {
      set(to.reg.value, part(of(from.reg.value), to.size));
    } else if (from.type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
      set(to.reg.value, Value::constant(static_cast<std::uint32_t>(from.imm.value.u)));
    } else if (plain_word(from)) {
      set(to.reg.value, part(word(address(from)), to.size));
    } else {
      return false;
    }
    return true;
  }

  // The stack pointer by a constant; or the address of a word is taken.
  bool adjust() {
    const ZydisDecodedOperand &to = operand(0), &from = operand(1);
    const bool pointer = is_register(to) && to.reg.value == ZYDIS_REGISTER_RSP;
    if (d_.i.mnemonic == ZYDIS_MNEMONIC_LEA) {
      if (!plain_word(from)) return false;
      if (pointer) {
        place(address(from));
      } else {
        f_.words.erase(address(from));
        if (is_register(to)) set(to.reg.value, {});
      }
      return true;
    }
    if (!pointer || from.type != ZYDIS_OPERAND_TYPE_IMMEDIATE) return false;
    place(d_.i.mnemonic == ZYDIS_MNEMONIC_ADD ? f_.sp + from.imm.value.s
                                              : f_.sp - from.imm.value.s);
    return true;
  }

  void other() {
    const bool zero = d_.i.mnemonic == ZYDIS_MNEMONIC_XOR && is_register(operand(0)) &&
                      is_register(operand(1)) && operand(0).size >= 32 &&
                      operand(0).reg.value == operand(1).reg.value;
    for (std::size_t n = 0; n < d_.i.operand_count; ++n) {
      const ZydisDecodedOperand& o = operand(n);
      if ((o.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) == 0) continue;
      if (is_register(o)) {
        if (o.reg.value == ZYDIS_REGISTER_RSP) lost();
        set(o.reg.value, {});
      } else if (of_stack(o)) {
        if (plain_word(o) && o.size != 0) {
          store(address(o), o.size / 8, {});
        } else {
          f_.words.clear();
        }
      }
    }
    if (zero) set(operand(0).reg.value, Value::constant(0));
  }

  Frame& f_;
  const Decoded& d_;
  std::uint64_t address_;
};

Value common(Value a, Value b) {
  if (a == b) return a;
  return a.is_none() && b.is_none() ? Value{Value::Kind::none, 0} : Value();
}

// True: `into` knows less now.
bool meet(Frame& into, const Frame& other) {
  const Frame was = into;
  if (!other.placed || into.sp != other.sp) {
    into.placed = false;
    into.words.clear();
  }
  for (std::size_t n = 0; n < into.registers.size(); ++n) {
    into.registers[n] = common(into.registers[n], other.registers[n]);
  }
  for (auto it = into.words.begin(); it != into.words.end();) {
    const auto found = other.words.find(it->first);
    it->second = found == other.words.end() ? Value() : common(it->second, found->second);
    it = it->second.known() ? std::next(it) : into.words.erase(it);
  }
  if (into.compared != other.compared || into.with != other.with) into.compared = kNoRegister;
  return into != was;
}

}  // namespace

bool Values::explore(const ElfFile& file, const Flow& flow, const Registers& at_entry) {
  file_ = &file;
  before_.clear();
  before_[flow.entry()].registers = at_entry;
  std::vector<std::uint64_t> todo{flow.entry()};
  for (std::size_t steps = 0; !todo.empty(); ++steps) {
    if (steps > kMaxSteps) return false;
    const Instruction& i = flow.instructions().at(todo.back());
    todo.pop_back();
    for (const std::uint64_t to : flow.successors(i)) {
      const Frame behind = along(i, to);
      const auto [found, first] = before_.try_emplace(to, behind);
      if (first || meet(found->second, behind)) todo.push_back(to);
    }
  }
  return true;
}

const Frame* Values::before(std::uint64_t address) const noexcept {
  const auto found = before_.find(address);
  return found == before_.end() ? nullptr : &found->second;
}

Frame Values::along(const Instruction& i, std::uint64_t to) const {
  Frame f = before_.at(i.address);
  Decoded d;
  if (!decode_one(file_->code(i.address), d)) return {};
  Step(f, d, i.address).take();
  if (i.kind == Instruction::Kind::branch && f.compared != kNoRegister && i.target != i.next()) {
    const bool taken = to == i.target;
    const Value v =
        told(f, static_cast<std::uint8_t>(taken ? i.condition : i.condition ^ kOpposite));
    Value& compared = f.registers[static_cast<std::size_t>(f.compared)];
    if (!v.known()) return f;
    if (compared.kind == Value::Kind::returned) {
      replace(f, compared, v);
    } else if (compared.kind != Value::Kind::argument) {
      compared = v;
    }
  }
  return f;
}

}  // namespace olly::tls
