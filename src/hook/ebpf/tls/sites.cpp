#include "hook/ebpf/tls/sites.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <set>

#include "hook/ebpf/kernel_abi.h"
#include "hook/ebpf/tls/code.h"
#include "hook/ebpf/tls/go_sites.h"
#include "hook/ebpf/tls/values.h"

namespace olly::tls {
namespace {

using Kind = Instruction::Kind;

constexpr std::size_t kMaxResultSites = 32;
// In place of the register that holds the result: it will be 0 or less (the stack pointer's number,
// which never holds one).
constexpr std::int8_t kNothing = OLLY_TLS_NOTHING;
// Of OpenSSL's method table: where its functions are, whatever the version.
constexpr std::int64_t kFirstMethod = 0x18, kLastMethod = 0x100;

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

constexpr std::int32_t kMaxDepth = 8 * 0xff;  // at arguments; results': more

struct ResultSite {
  std::uint64_t at = 0;
  std::int8_t in = 0;
  std::uint64_t goes_on = 0;  // where, if the condition holds; 0: the function ends
  std::uint8_t condition = 0;
  std::uint32_t depth = 0;
  std::optional<Whereabouts> arguments{};
};

struct ArgumentSite {
  std::uint64_t at = 0;
  std::uint32_t depth = 0;
};

// The registers of a function's arguments (System V ABI).
constexpr std::uint8_t kInOrder[] = {7, 6, 2, 1, 8, 9};

class Finder {
 public:
  Finder(const ElfFile& file, bool dear)
      : file_(file), decoder_(file), methods_(method_table(file, decoder_)), dear_(dear) {}

  // The first emulated instruction before which none of the registers is changed; a jump rather
  // than a push, which costs more.
  std::optional<ArgumentSite> arguments(std::uint64_t entry, std::uint32_t registers) const {
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

  // False: `why` says it. The site of the arguments cannot be one of results, too. `reads`: the
  // function fills the buffer, which has to be done by then.
  bool results(std::uint64_t entry, std::uint64_t arguments, bool reads,
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

  // The functions that `plain` and `ex` both call with the arguments of `ex`, the outer ones first.
  std::vector<std::uint64_t> inner(std::uint64_t plain, std::uint64_t ex) const {
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

  // Sites at which the arguments of the function are at hand, too, so that one probe knows all. It
  // may share code with other functions of the method table; what tells them apart is looked at as
  // well.
  bool alone(std::uint64_t entry, bool reads, std::vector<ResultSite>& sites,
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

  // The kernel emulates the instruction there.
  bool cheap(std::uint64_t at) const {
    Instruction i;
    return decoder_.decode(at, i) && i.emulated;
  }

  // Whom of the method table the function leaves for; 0: nobody, or not one alone.
  std::uint64_t leaves_for(std::uint64_t entry) const {
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

 private:
  // Whom the function calls first; 0: nobody in this file, or the registers are not what they were.
  std::uint64_t first_call(std::uint64_t entry, std::uint32_t intact) const {
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
  std::set<std::int64_t> table_calls(std::uint64_t entry) const {
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

  static std::uint64_t resolve(const void* self, std::int64_t displacement) {
    const auto& finder = *static_cast<const Finder*>(self);
    if (finder.methods_ == 0 || displacement < kFirstMethod || displacement > kLastMethod) return 0;
    const std::uint64_t target =
        finder.file_.pointer_at(finder.methods_ + static_cast<std::uint64_t>(displacement));
    return finder.file_.code(target).empty() ? 0 : target;
  }

  static bool few(const std::vector<ResultSite>& sites, std::string& why) {
    if (!sites.empty() && sites.size() <= kMaxResultSites) return true;
    why = fmt::format("needs {} result sites", sites.size());
    return false;
  }

  // Control does not come back from there.
  static bool ends(const Flow& flow, std::uint64_t at) {
    for (int n = 0; n < 4; ++n) {
      const auto found = flow.instructions().find(at);
      if (found == flow.instructions().end()) return false;
      if (found->second.kind == Kind::end) return true;
      if (found->second.kind != Kind::plain) return false;
      at = found->second.next();
    }
    return false;
  }

  // By address: the register that holds what the function will return, where nothing but copies
  // can change that any more.
  using Places = std::map<std::uint64_t, std::int8_t>;
  using Candidates = std::map<std::uint64_t, ResultSite>;
  using Addresses = std::set<std::uint64_t>;

  // What the register must be before an instruction, for `after` to be right behind it. A constant
  // of 0 or less is a result, too: that nothing was moved. Where the number of bytes is put only
  // then (through a pointer, eight bytes at once), it is no place yet.
  static std::int8_t before(const Instruction& i, std::int8_t after) {
    if (after == kNoRegister || i.stores_whole) return kNoRegister;
    if (after == kNothing) return kNothing;
    if (i.constant && i.destination == after) return i.value <= 0 ? kNothing : kNoRegister;
    if (i.copied != kNoRegister && i.destination == after) return i.copied;
    return (i.writes & 1u << static_cast<unsigned>(after)) != 0 ? kNoRegister : after;
  }

  // From the returns backwards, until nothing changes. A place that two ways on see differently is
  // none, and stays none.
  static Places settled(const Flow& flow) {
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
  static Candidates half_settled(const Flow& flow, const Places& place) {
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

  static Registers at_entry() {
    Registers registers{};
    for (std::uint32_t n = 0; n < std::size(kInOrder); ++n) {
      registers[kInOrder[n]] = Value::argument(n);
    }
    return registers;
  }

  // From where on the function may still call somebody to whom it hands its buffer: memcpy, or who
  // reads. Where it calls nobody so, it hands on some pointer that is not known: nothing.
  Addresses before_filled(const Flow& flow) const {
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

  static bool moves_nothing(const Values& values, const Instruction& i, std::uint64_t to,
                            std::int8_t in) {
    if (in == kNothing) return true;
    return values.along(i, to).registers[static_cast<std::size_t>(in)].is_none();
  }

  // What other functions of the method table that have code in common with the flow know there.
  std::vector<Values> sharing(const Flow& flow) const {
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

  // Where at an instruction the arguments are; nothing: one of them is nowhere, or the functions
  // that pass there, too, cannot be told from this one.
  static std::optional<Whereabouts> whereabouts(std::uint64_t at, const Frame& frame,
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

  // Registers that calls keep first: words that were pushed for a call are the callee's to change.
  static std::vector<std::uint8_t> places() {
    std::vector<std::uint8_t> out{3, 5, 12, 13, 14, 15};
    for (std::uint8_t n = Whereabouts::kWord; n < Whereabouts::kNowhere; ++n) out.push_back(n);
    return out;
  }

  static Value at_place(const Frame& f, std::uint8_t place) {
    if (place < Whereabouts::kWord) return f.registers[place];
    if (!f.placed) return {};
    const auto found = f.words.find(f.sp + 8 * (place - Whereabouts::kWord));
    return found == f.words.end() ? Value() : found->second;
  }

  static std::uint8_t place_of(const Frame& f, Value v) {
    for (const std::uint8_t place : places()) {
      if (at_place(f, place) == v) return place;
    }
    return Whereabouts::kNowhere;
  }

  using Settled = std::function<bool(const Instruction& i, std::uint64_t to)>;

  // The candidates that control meets first from there on. False: there is a way out that meets
  // none. Ways that `nothing` knows to move nothing need none.
  static bool cover(const Flow& flow, std::uint64_t from, const Candidates& candidates,
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

  const ElfFile& file_;
  Decoder decoder_;
  std::uint64_t methods_;
  bool dear_;  // instructions that the kernel does not emulate will do, where no other choice is
};

void add_results(FunctionSites& f, const ElfFile& file, const Finder& finder,
                 const std::vector<ResultSite>& results) {
  for (const ResultSite& r : results) {
    f.sites.push_back({.offset = file.offset_of(r.at),
                       .kind = f.kind,
                       .result = true,
                       .in = static_cast<std::uint8_t>(r.in),
                       .branch = r.goes_on != 0,
                       .goes_on = r.condition,
                       .depth = r.depth,
                       .arguments = r.arguments,
                       .dear = !finder.cheap(r.at)});
  }
}

struct Wanted {
  std::uint32_t kind;
  std::uint32_t registers;
  bool result;
};

FunctionSites sites_of(const ElfFile& file, const Finder& finder, std::string name,
                       std::uint64_t entry, const Wanted& wanted) {
  FunctionSites f;
  f.name = std::move(name);
  f.kind = wanted.kind;
  const auto arguments = finder.arguments(entry, wanted.registers);
  if (!arguments) {
    f.refused = "no cheap site while the arguments are intact";
    return f;
  }
  std::vector<ResultSite> results;
  const bool reads = wanted.kind == OLLY_TLS_READ || wanted.kind == OLLY_TLS_READ_EX;
  if (wanted.result && !finder.results(entry, arguments->at, reads, results, f.refused)) return f;
  f.refused.clear();
  f.sites.push_back(
      {.offset = file.offset_of(arguments->at), .kind = wanted.kind, .depth = arguments->depth});
  add_results(f, file, finder, results);
  return f;
}

constexpr std::uint32_t kThree = kRdi | kRsi | kRdx;
constexpr std::uint32_t kFour = kThree | kRcx;

// `plain` and `ex` are coats of one inner function, or stand for themselves.
void add_pair(LibrarySites& library, const ElfFile& file, const Finder& finder, const char* plain,
              const char* ex, std::uint32_t plain_kind, std::uint32_t ex_kind) {
  const std::uint64_t a = file.function(plain);
  const std::uint64_t b = file.function(ex);
  if (a != 0 && b != 0) {
    const std::vector<std::uint64_t> inner = finder.inner(a, b);
    if (!inner.empty()) {
      std::vector<ResultSite> results;
      const std::uint64_t method = finder.leaves_for(inner.front());
      FunctionSites one{fmt::format("{}, {}", plain, ex), ex_kind, {}, {}};
      if (method != 0 && finder.alone(method, ex_kind == OLLY_TLS_READ_EX, results, one.refused)) {
        one.refused.clear();
        add_results(one, file, finder, results);
        library.functions.push_back(std::move(one));
        return;
      }
    }
    for (const std::uint64_t at : inner) {
      FunctionSites f =
          sites_of(file, finder, fmt::format("{}, {}", plain, ex), at, {ex_kind, kFour, true});
      if (f.refused.empty()) {
        library.functions.push_back(std::move(f));
        return;
      }
    }
  }
  if (a != 0) {
    library.functions.push_back(sites_of(file, finder, plain, a, {plain_kind, kThree, true}));
  }
  if (b != 0) library.functions.push_back(sites_of(file, finder, ex, b, {ex_kind, kFour, true}));
}

void add_one(LibrarySites& library, const ElfFile& file, const Finder& finder, const char* name,
             const Wanted& wanted) {
  if (const std::uint64_t at = file.function(name); at != 0) {
    library.functions.push_back(sites_of(file, finder, name, at, wanted));
  }
}

// Few programs call it. Where its results cannot be had, an object that it is called for is not
// read any more.
void add_sendfile(LibrarySites& library, const ElfFile& file, const Finder& finder) {
  const std::uint64_t at = file.function("SSL_sendfile");
  if (at == 0) return;
  FunctionSites f =
      sites_of(file, finder, "SSL_sendfile", at, {OLLY_TLS_SENDFILE, kRdi | kRcx, true});
  if (!f.refused.empty()) {
    f = sites_of(file, finder, "SSL_sendfile (gives up)", at, {OLLY_TLS_GIVE_UP, kRdi, false});
  }
  library.functions.push_back(std::move(f));
}

}  // namespace

bool Site::go() const noexcept { return kind >= OLLY_TLS_GO_READ; }

std::uint64_t Site::cookie() const noexcept {
  if (go()) return kind | std::uint64_t{home} << OLLY_TLS_GO_HOME;
  if (!result) return kind | fields.cookie() | std::uint64_t{depth / 8} << OLLY_TLS_DEPTH_SHIFT;
  const std::uint64_t place = kind | OLLY_TLS_RESULT | std::uint64_t{in} << 12 |
                              (branch ? OLLY_TLS_BRANCH | std::uint64_t{goes_on} << 16 : 0);
  if (!arguments) return place | std::uint64_t{depth / 8} << OLLY_TLS_RESULT_DEPTH_SHIFT;
  return place | OLLY_TLS_ALONE | std::uint64_t{arguments->object} << 20 |
         std::uint64_t{arguments->buffer} << 28 | std::uint64_t{arguments->count} << 36 |
         std::uint64_t{arguments->check} << 44 | std::uint64_t{arguments->must_be} << 52;
}

bool LibrarySites::dear() const noexcept {
  return std::any_of(functions.begin(), functions.end(), [](const FunctionSites& f) {
    return std::any_of(f.sites.begin(), f.sites.end(), [](const Site& s) { return s.dear; });
  });
}

bool LibrarySites::usable() const noexcept { return why_not().empty(); }

std::string LibrarySites::why_not() const {
  if (library.empty()) return "no TLS library";
  bool reads = false, writes = false, forgets = false;
  std::string reasons;
  for (const FunctionSites& f : functions) {
    if (f.refused.empty()) {
      reads |= f.kind == OLLY_TLS_GO_READ || f.kind == OLLY_TLS_READ || f.kind == OLLY_TLS_READ_EX;
      writes |=
          f.kind == OLLY_TLS_GO_WRITE || f.kind == OLLY_TLS_WRITE || f.kind == OLLY_TLS_WRITE_EX;
      forgets |= f.kind == OLLY_TLS_FREE || f.kind == OLLY_TLS_GO_HANDSHAKE;
    } else {
      reasons += fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", f.name, f.refused);
    }
  }
  // Half of a library would be worse than none: bytes that bypass the probes are not counted.
  if (!reasons.empty()) return reasons;
  if (reads && writes && forgets) return {};
  return "it exports neither all of OpenSSL's nor all of GnuTLS's functions";
}

std::vector<Site> LibrarySites::all() const {
  std::vector<Site> out;
  for (const FunctionSites& f : functions) out.insert(out.end(), f.sites.begin(), f.sites.end());
  return out;
}

LibrarySites find_sites(const ElfFile& file, bool dear) {
  LibrarySites library = find_go_sites(file);
  if (!library.library.empty()) return library;
  library.build_id = file.build_id();
  const Finder finder(file, dear);
  if (file.function("SSL_read") != 0 && file.function("SSL_write") != 0) {
    const bool boring = file.function("SSL_CTX_set_grease_enabled") != 0;
    library.library = boring ? "BoringSSL" : "OpenSSL";
    add_pair(library, file, finder, "SSL_read", "SSL_read_ex", OLLY_TLS_READ, OLLY_TLS_READ_EX);
    add_pair(library, file, finder, "SSL_write", "SSL_write_ex", OLLY_TLS_WRITE, OLLY_TLS_WRITE_EX);
    add_sendfile(library, file, finder);
    // BoringSSL's SSL_new does not call SSL_clear, and what chooses the side has no cheap site: a
    // handshake of an object that is not known begins it.
    const std::uint32_t handshake = boring ? OLLY_TLS_FIRST : OLLY_TLS_HANDSHAKE;
    add_one(library, file, finder, "SSL_do_handshake", {handshake, kRdi, false});
    add_one(library, file, finder, "SSL_clear", {OLLY_TLS_CLEAR, kRdi, false});
    for (const char* name : {"SSL_set_connect_state", "SSL_set_accept_state"})
      if (!boring) add_one(library, file, finder, name, {OLLY_TLS_BEGIN, kRdi, false});
    add_one(library, file, finder, "SSL_free", {OLLY_TLS_FREE, kRdi, false});
    const ObjectFields fields = object_fields(file);
    for (FunctionSites& f : library.functions) {
      for (Site& site : f.sites) {
        if (!site.result) site.fields = fields;
      }
    }
  } else if (file.function("gnutls_record_recv") != 0) {
    library.library = "GnuTLS";
    add_one(library, file, finder, "gnutls_record_recv", {OLLY_TLS_READ, kThree, true});
    add_one(library, file, finder, "gnutls_record_send2", {OLLY_TLS_WRITE, kThree, true});
    add_one(library, file, finder, "gnutls_handshake", {OLLY_TLS_FIRST, kRdi, false});
    add_one(library, file, finder, "gnutls_deinit", {OLLY_TLS_FREE, kRdi, false});
  }
  return library;
}

}  // namespace olly::tls
