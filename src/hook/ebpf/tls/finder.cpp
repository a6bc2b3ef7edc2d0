#include "hook/ebpf/tls/finder.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <map>

#include "hook/ebpf/kernel_abi.h"

namespace olly::tls {
namespace {

using Kind = Instruction::Kind;

constexpr std::size_t kMaxResultSites = 32;
// In place of the register that holds the result: it will be 0 or less (the stack pointer's number,
// which never holds one).
constexpr std::int8_t kNothing = OLLY_TLS_NOTHING;
// Of OpenSSL's method table: where its functions are, whatever the version.
constexpr std::int64_t kFirstMethod = 0x18, kLastMethod = 0x100;

constexpr std::int32_t kMaxDepth = 8 * 0xff;  // at arguments; results': more

// The registers of a function's arguments (System V ABI).
constexpr std::uint8_t kInOrder[] = {7, 6, 2, 1, 8, 9};

// The function pointers of OpenSSL's method table, as TLS_method returns it: `lea table, %rax;
// ret`, or, where the program's place is fixed, `mov $table, %eax; ret`.
std::uint64_t method_table(const ElfFile& file, const Decoder& decoder) {
  std::uint64_t at = file.function("TLS_method");
  for (int n = 0; at != 0 && n < 3; ++n) {
    Instruction i;
    if (!decoder.decode(at, i)) return 0;
    if (const ByteView b = file.code(at);
        i.length == 7 && b[0] == 0x48 && b[1] == 0x8d && b[2] == 0x05) {
      const auto relative = static_cast<std::int32_t>(
          static_cast<std::uint32_t>(b[3]) | static_cast<std::uint32_t>(b[4]) << 8 |
          static_cast<std::uint32_t>(b[5]) << 16 | static_cast<std::uint32_t>(b[6]) << 24);
      return i.next() + static_cast<std::uint64_t>(static_cast<std::int64_t>(relative));
    } else if (i.length == 5 && b[0] == 0xb8) {
      return std::uint64_t{b[1]} | std::uint64_t{b[2]} << 8 | std::uint64_t{b[3]} << 16 |
             std::uint64_t{b[4]} << 24;
    }
    at = i.next();
  }
  return 0;
}

// By address: the register that holds what the function will return, where nothing but copies
// can change that any more.
using Places = std::map<std::uint64_t, std::int8_t>;
using Candidates = std::map<std::uint64_t, ResultSite>;

bool few(const std::vector<ResultSite>& sites, std::string& why) {
  if (!sites.empty() && sites.size() <= kMaxResultSites) return true;
  why = fmt::format("needs {} result sites", sites.size());
  return false;
}

// Control does not come back from there.
bool ends(const Flow& flow, std::uint64_t at) {
  for (int n = 0; n < 4; ++n) {
    const auto found = flow.instructions().find(at);
    if (found == flow.instructions().end()) return false;
    if (found->second.kind == Kind::end) return true;
    if (found->second.kind != Kind::plain) return false;
    at = found->second.next();
  }
  return false;
}

// What the register must be before an instruction, for `after` to be right behind it. A constant
// of 0 or less is a result, too: that nothing was moved. Where the number of bytes is put only
// then (through a pointer, eight bytes at once), it is no place yet.
std::int8_t before(const Instruction& i, std::int8_t after) {
  if (after == kNoRegister || i.stores_whole) return kNoRegister;
  if (after == kNothing) return kNothing;
  if (i.constant && i.destination == after) return i.value <= 0 ? kNothing : kNoRegister;
  if (i.copied != kNoRegister && i.destination == after) return i.copied;
  return (i.writes & 1u << static_cast<unsigned>(after)) != 0 ? kNoRegister : after;
}

// From the returns backwards, until nothing changes. A place that two ways on see differently is
// none, and stays none.
Places settled(const Flow& flow) {
  Places place;
  std::set<std::uint64_t> none;
  const auto behind = [&](const Instruction& i, bool& known) {
    std::int8_t in = kNoRegister;
    known = true;
    for (const std::uint64_t to : flow.successors(i)) {
      if (flow.instructions().at(to).kind == Kind::end || ends(flow, to)) continue;
      if (none.contains(to)) return kNoRegister;
      const auto found = place.find(to);
      if (found == place.end()) {
        known = false;
      } else if (in == kNoRegister) {
        in = found->second;
      } else if (in != found->second) {
        known = true;
        return kNoRegister;
      }
    }
    return in;
  };
  for (bool changed = true; changed;) {
    changed = false;
    for (auto it = flow.instructions().rbegin(); it != flow.instructions().rend(); ++it) {
      const Instruction& i = it->second;
      if (place.contains(i.address) || none.contains(i.address)) continue;
      bool known = true;
      std::int8_t in = i.kind == Kind::ret ? std::int8_t{0} : before(i, behind(i, known));
      if (!known) continue;
      changed = true;
      if (in == kNoRegister)
        none.insert(i.address);
      else
        place[i.address] = in;
    }
  }
  return place;
}

// A branch that ends the function one way, with the result in its register, and the other way
// does not: the processor's flags tell which it will be.
Candidates half_settled(const Flow& flow, const Places& place) {
  Candidates out;
  for (const auto& [at, i] : flow.instructions()) {
    if (i.kind != Kind::branch || !i.emulated || i.depth < 0 || place.contains(at)) continue;
    const auto depth = static_cast<std::uint32_t>(i.depth);
    const auto taken = place.find(i.target), passed = place.find(i.next());
    if ((taken != place.end()) == (passed != place.end())) continue;
    if (taken != place.end())
      out[at] = {at, taken->second, i.next(), static_cast<std::uint8_t>(i.condition ^ 1u), depth,
                 {}};
    else
      out[at] = {at, passed->second, i.target, i.condition, depth, {}};
  }
  return out;
}

Registers at_entry() {
  Registers registers{};
  for (std::uint32_t n = 0; n < std::size(kInOrder); ++n) {
    registers[kInOrder[n]] = Value::argument(n);
  }
  return registers;
}

bool moves_nothing(const Values& values, const Instruction& i, std::uint64_t to, std::int8_t in) {
  if (in == kNothing) return true;
  return values.along(i, to).registers[static_cast<std::size_t>(in)].is_none();
}

// Registers that calls keep first: words that were pushed for a call are the callee's to change.
std::vector<std::uint8_t> places() {
  std::vector<std::uint8_t> out{3, 5, 12, 13, 14, 15};
  for (std::uint8_t n = Whereabouts::kWord; n < Whereabouts::kNowhere; ++n) out.push_back(n);
  return out;
}

Value at_place(const Frame& f, std::uint8_t place) {
  if (place < Whereabouts::kWord) return f.registers[place];
  if (!f.placed) return {};
  const auto found = f.words.find(f.sp + 8 * (place - Whereabouts::kWord));
  return found == f.words.end() ? Value() : found->second;
}

std::uint8_t place_of(const Frame& f, Value v) {
  for (const std::uint8_t place : places()) {
    if (at_place(f, place) == v) return place;
  }
  return Whereabouts::kNowhere;
}

// Where at an instruction the arguments are; nothing: one of them is nowhere, or the functions
// that pass there, too, cannot be told from this one.
std::optional<Whereabouts> whereabouts(std::uint64_t at, const Frame& frame,
                                       const std::vector<Values>& others) {
  Whereabouts w;
  w.object = place_of(frame, Value::argument(0));
  w.buffer = place_of(frame, Value::argument(1));
  w.count = place_of(frame, Value::argument(3));
  if (w.object == Whereabouts::kNowhere || w.buffer == Whereabouts::kNowhere ||
      w.count == Whereabouts::kNowhere) {
    return {};
  }
  std::vector<const Frame*> strangers;
  for (const Values& other : others) {
    if (const Frame* f = other.before(at)) strangers.push_back(f);
  }
  if (strangers.empty()) return w;
  for (std::uint8_t place : places()) {
    const Value v = at_place(frame, place);
    if (v.kind != Value::Kind::constant || v.number > 0xff) continue;
    if (std::any_of(strangers.begin(), strangers.end(),
                    [&](const Frame* f) { return at_place(*f, place) == v; })) {
      continue;
    }
    w.check = place;
    w.must_be = static_cast<std::uint8_t>(v.number);
    return w;
  }
  return {};
}

using Settled = std::function<bool(const Instruction& i, std::uint64_t to)>;

// The candidates that control meets first from there on. False: there is a way out that meets
// none. Ways that `nothing` knows to move nothing need none.
bool cover(const Flow& flow, std::uint64_t from, const Candidates& candidates,
           std::vector<ResultSite>& sites, std::string& why, const Settled& nothing = {}) {
  sites.clear();
  std::vector<std::uint64_t> todo{from};
  std::set<std::uint64_t> been;
  while (!todo.empty()) {
    const std::uint64_t at = todo.back();
    todo.pop_back();
    if (!been.insert(at).second) continue;
    if (const auto found = candidates.find(at); found != candidates.end()) {
      sites.push_back(found->second);
      const std::uint64_t on = found->second.goes_on;
      if (on != 0 && (!nothing || !nothing(flow.instructions().at(at), on))) todo.push_back(on);
      continue;
    }
    const Instruction& i = flow.instructions().at(at);
    if (i.kind == Kind::ret) {
      why = fmt::format("no cheap site before the return at {:#x}", at);
      return false;
    }
    if (i.kind == Kind::indirect_jump && flow.successors(i).empty()) {
      why = fmt::format("leaves by a jump through a register at {:#x}", at);
      return false;
    }
    for (const std::uint64_t to : flow.successors(i)) {
      if (!nothing || !nothing(i, to)) todo.push_back(to);
    }
  }
  return true;
}

}  // namespace

Finder::Finder(const ElfFile& file, bool dear)
    : file_(file), decoder_(file), methods_(method_table(file, decoder_)), dear_(dear) {}

std::optional<ArgumentSite> Finder::arguments(std::uint64_t entry, std::uint32_t registers) const {
  std::optional<ArgumentSite> push;
  Flow flow;
  if (!flow.explore(decoder_, entry, &Finder::resolve, this)) return {};
  for (std::uint64_t at = entry; flow.instructions().contains(at);) {
    const Instruction& i = flow.instructions().at(at);
    if (i.depth < 0 || i.depth > kMaxDepth) break;
    const ArgumentSite here{at, static_cast<std::uint32_t>(i.depth)};
    if (i.emulated && i.kind != Kind::plain) return here;
    if (i.emulated && !push) push = here;
    if (i.kind != Kind::plain || (i.writes & registers) != 0) break;
    at = i.next();
  }
  return push;
}

bool Finder::results(std::uint64_t entry, std::uint64_t arguments, bool reads,
                     std::vector<ResultSite>& sites, std::string& why) const {
  Flow flow;
  if (!flow.explore(decoder_, entry, &Finder::resolve, this, dear_ ? file_.size_of(entry) : 0)) {
    why = flow.reason();
    return false;
  }
  const Places place = settled(flow);
  const Addresses early = reads ? before_filled(flow) : Addresses();
  // The stack protector's jumps are where ways out come together; else any instruction will do.
  Candidates guards, any;
  for (const auto& [at, in] : place) {
    const Instruction& i = flow.instructions().at(at);
    if (!i.emulated || at == arguments || i.depth < 0) continue;
    if (in != kNothing && early.contains(at)) continue;
    any[at] = {at, in, 0, 0, static_cast<std::uint32_t>(i.depth), {}};
    if (i.kind == Kind::branch && ends(flow, i.target)) guards[at] = any[at];
  }
  // A branch is passed by every call: only where there is no other site behind it.
  for (const auto& [at, site] : half_settled(flow, place)) {
    const Instruction& i = flow.instructions().at(at);
    const std::uint64_t ending = site.goes_on == i.target ? i.next() : i.target;
    std::vector<ResultSite> ignored;
    std::string reason;
    if (at == arguments || cover(flow, ending, any, ignored, reason)) continue;
    if (site.in == kNothing || !early.contains(ending)) any[at] = site;
  }
  for (const Candidates& candidates : {guards, any}) {
    if (cover(flow, entry, candidates, sites, why) && few(sites, why)) return true;
  }
  if (!dear_) return false;
  // Cheap ones on the way and the returns themselves; or, if these are too many, the returns
  // alone.
  Candidates returns;
  for (const auto& [at, i] : flow.instructions()) {
    // Where a function returns, the stack is what it was when it was entered.
    if (i.kind == Kind::ret) any[at] = returns[at] = {at, 0, 0, 0, 0, {}};
  }
  for (const Candidates& candidates : {any, returns}) {
    if (cover(flow, entry, candidates, sites, why) && few(sites, why)) return true;
  }
  return false;
}

std::vector<std::uint64_t> Finder::inner(std::uint64_t plain, std::uint64_t ex) const {
  std::vector<std::uint64_t> out;
  const std::uint64_t direct = first_call(ex, kRdi | kRsi | kRdx | kRcx);
  const bool same = direct != 0 && direct == first_call(plain, kRdi | kRsi);
  if (same) out.push_back(direct);
  const std::set<std::int64_t> by_plain = table_calls(plain), by_ex = table_calls(ex);
  std::vector<std::int64_t> common;
  std::ranges::set_intersection(by_plain, by_ex, std::back_inserter(common));
  if (common.size() == 1) {
    if (const std::uint64_t at = resolve(this, common[0]); at != 0) out.push_back(at);
  }
  return out;
}

bool Finder::alone(std::uint64_t entry, bool reads, std::vector<ResultSite>& sites,
                   std::string& why) const {
  Flow flow;
  Values values;
  if (!flow.explore(decoder_, entry, &Finder::resolve, this) ||
      !values.explore(file_, flow, at_entry())) {
    why = "the function is too large";
    return false;
  }
  const std::vector<Values> others = sharing(flow);
  const Addresses early = reads ? before_filled(flow) : Addresses();
  const Places place = settled(flow);
  Candidates all, guards;
  const auto consider = [&](ResultSite site, bool guard) {
    const Frame* frame = values.before(site.at);
    if (frame != nullptr) site.arguments = whereabouts(site.at, *frame, others);
    if (!site.arguments) return;
    all[site.at] = site;
    if (guard) guards[site.at] = site;
  };
  for (const auto& [at, site] : half_settled(flow, place)) {
    const Instruction& i = flow.instructions().at(at);
    const std::uint64_t ends_by = site.goes_on == i.target ? i.next() : i.target;
    if (!moves_nothing(values, i, ends_by, site.in) && !early.contains(ends_by))
      consider(site, false);
  }
  for (const auto& [at, in] : place) {
    const Instruction& i = flow.instructions().at(at);
    if (i.emulated && in != kNothing && !early.contains(at))
      consider({at, in, 0, 0, 0, {}}, i.kind == Kind::branch && ends(flow, i.target));
  }
  for (const Candidates& candidates : {guards, all}) {
    if (cover(flow, entry, candidates, sites, why,
              [&](const Instruction& i, std::uint64_t to) {
                const auto in = place.find(to);
                return in != place.end() && moves_nothing(values, i, to, in->second);
              }) &&
        few(sites, why)) {
      return true;
    }
  }
  return false;
}

bool Finder::cheap(std::uint64_t at) const {
  Instruction i;
  return decoder_.decode(at, i) && i.emulated;
}

std::uint64_t Finder::leaves_for(std::uint64_t entry) const {
  struct Seen {
    std::set<std::int64_t>* offsets;
  };
  std::set<std::int64_t> offsets;
  const Seen seen{&offsets};
  Flow flow;
  const auto note = [](const void* context, std::int64_t displacement) -> std::uint64_t {
    static_cast<const Seen*>(context)->offsets->insert(displacement);
    return 0;
  };
  flow.explore(decoder_, entry, note, &seen);
  return offsets.size() == 1 ? resolve(this, *offsets.begin()) : 0;
}

// Whom the function calls first; 0: nobody in this file, or the registers are not what they were.
std::uint64_t Finder::first_call(std::uint64_t entry, std::uint32_t intact) const {
  Instruction i;
  int n = 0;
  for (std::uint64_t at = entry; n < 24 && decoder_.decode(at, i); ++n) {
    if (i.kind == Kind::call) return i.target;
    if (i.kind != Kind::plain && i.kind != Kind::branch && i.kind != Kind::jump) return 0;
    if ((i.writes & intact) != 0) return 0;
    at = i.kind == Kind::jump ? i.target : i.next();
  }
  return 0;
}

// Where in tables the function, and what it calls first, look up whom they call.
std::set<std::int64_t> Finder::table_calls(std::uint64_t entry) const {
  std::set<std::int64_t> out;
  for (const std::uint64_t at : {entry, first_call(entry, kRdi | kRsi)}) {
    Flow flow;
    if (at == 0 || !flow.explore(decoder_, at, nullptr, nullptr)) continue;
    for (const auto& [address, i] : flow.instructions()) {
      if (i.by_table) out.insert(i.displacement);
    }
  }
  return out;
}

std::uint64_t Finder::resolve(const void* self, std::int64_t displacement) {
  const auto& finder = *static_cast<const Finder*>(self);
  if (finder.methods_ == 0 || displacement < kFirstMethod || displacement > kLastMethod) return 0;
  const std::uint64_t target =
      finder.file_.pointer_at(finder.methods_ + static_cast<std::uint64_t>(displacement));
  return finder.file_.code(target).empty() ? 0 : target;
}

// From where on the function may still call somebody to whom it hands its buffer: memcpy, or who
// reads. Where it calls nobody so, it hands on some pointer that is not known: nothing.
Finder::Addresses Finder::before_filled(const Flow& flow) const {
  Addresses out;
  Values values;
  if (!values.explore(file_, flow, at_entry())) return out;
  for (const auto& [at, i] : flow.instructions()) {
    const Frame* frame = i.kind == Kind::call ? values.before(at) : nullptr;
    if (frame == nullptr) continue;
    if (std::any_of(std::begin(kInOrder), std::end(kInOrder),
                    [&](std::uint8_t r) { return frame->registers[r] == Value::argument(1); })) {
      out.insert(at);
    }
  }
  for (std::size_t before = 0; before != out.size();) {
    before = out.size();
    for (auto it = flow.instructions().rbegin(); it != flow.instructions().rend(); ++it) {
      for (const std::uint64_t to : flow.successors(it->second)) {
        if (out.contains(to)) out.insert(it->first);
      }
    }
  }
  return out;
}

// What other functions of the method table that have code in common with the flow know there.
std::vector<Values> Finder::sharing(const Flow& flow) const {
  std::vector<Values> out;
  for (std::int64_t at = kFirstMethod; at <= kLastMethod; at += 8) {
    const std::uint64_t entry = resolve(this, at);
    Flow other;
    Values values;
    if (entry == 0 || entry == flow.entry() ||
        !other.explore(decoder_, entry, &Finder::resolve, this)) {
      continue;
    }
    const bool shares =
        std::any_of(other.instructions().begin(), other.instructions().end(),
                    [&](const auto& i) { return flow.instructions().contains(i.first); });
    if (shares && values.explore(file_, other, {})) out.push_back(std::move(values));
  }
  return out;
}

}  // namespace olly::tls
