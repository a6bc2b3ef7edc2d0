// kt_verify [--limit N] OBJECT...: loads kernel programs and prints how many instructions the
// verifier has looked at for each. Exit status 1 where a program was refused or took more than the
// limit (the kernel's own is 1,000,000: what is near it here is past it on another kernel or with
// another compiler), or takes more stack than kernels before 6.13 have, 77 where this user may not
// load any. An object whose tracepoints this kernel does not have is named and passed over. Nothing
// is attached. Root only.
#include <bpf/libbpf.h>
#include <fmt/core.h>
#include <linux/bpf.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr std::size_t kLog = 16384;
constexpr unsigned kStatistics = 4;  // BPF_LOG_STATS

std::string libbpf_said;

int note(libbpf_print_level level, const char* format, va_list args) {
  if (level == LIBBPF_DEBUG) return 0;
  char line[1024];
  const int n = std::vsnprintf(line, sizeof line, format, args);
  if (n > 0 && libbpf_said.size() < 64 * 1024) libbpf_said += line;
  return 0;
}

long processed(const std::string& log) {
  const auto at = log.find("processed ");
  return at == std::string::npos ? -1 : std::atol(log.c_str() + at + 10);
}

constexpr int kMostStack = 512;  // of all functions that are open at a time, before 6.13

// The most stack that the functions of a program take together, as kernels before 6.13 count it: by
// what each of them touches, in units of 32 bytes. Newer ones give each function as much as those
// give all of them, so they do not say.
class Stack {
 public:
  explicit Stack(const bpf_program* program)
      : code_(bpf_program__insns(program),
              bpf_program__insns(program) + bpf_program__insn_cnt(program)) {
    starts_ = {0, size()};
    for (int i = 0; i < size(); ++i) {
      if (is_call(code_[i])) starts_.insert(i + 1 + code_[i].imm);
    }
  }
  int most(int function = 0) const {
    const int end = *starts_.upper_bound(function);
    int own = 1, called = 0;
    for (int i = function; i < end; ++i) {
      const bpf_insn& insn = code_[i];
      own = std::max(own, -touched(i));
      if (is_call(insn)) called = std::max(called, most(i + 1 + insn.imm));
    }
    return (own + 31) / 32 * 32 + called;
  }

 private:
  int size() const { return static_cast<int>(code_.size()); }
  static bool is_call(const bpf_insn& insn) {
    return insn.code == (BPF_JMP | BPF_CALL) && insn.src_reg == BPF_PSEUDO_CALL;
  }
  // Below the frame's pointer: by a load or a store, or by an address that is made.
  int touched(int i) const {
    const bpf_insn& insn = code_[i];
    const int kind = BPF_CLASS(insn.code);
    if (kind == BPF_LDX) return insn.src_reg == BPF_REG_10 ? insn.off : 0;
    if (kind == BPF_ST || kind == BPF_STX) return insn.dst_reg == BPF_REG_10 ? insn.off : 0;
    const bool adds = insn.code == (BPF_ALU64 | BPF_ADD | BPF_K) && i > 0;
    if (!adds) return 0;
    const bpf_insn& before = code_[i - 1];
    const bool frame = before.code == (BPF_ALU64 | BPF_MOV | BPF_X) &&
                       before.src_reg == BPF_REG_10 && before.dst_reg == insn.dst_reg;
    return frame ? insn.imm : 0;
  }

  std::vector<bpf_insn> code_;
  std::set<int> starts_;
};

struct Program {
  bpf_program* program;
  std::string log = std::string(kLog, '\0');
};

// The last that the verifier said of the program that it refused.
void explain(const char* path) {
  const std::unique_ptr<bpf_object, void (*)(bpf_object*)> object(
      bpf_object__open_file(path, nullptr), bpf_object__close);
  if (!object) return;
  std::string log(std::size_t{64} << 20, '\0');
  bpf_program* p = nullptr;
  bpf_object__for_each_program(p, object.get()) {
    bpf_program__set_log_level(p, 1);
    bpf_program__set_log_buf(p, log.data(), log.size());
  }
  if (bpf_object__load(object.get()) == 0) return;
  log.resize(std::strlen(log.c_str()));
  fmt::print("{}\n", log.substr(log.size() - std::min<std::size_t>(log.size(), 3000)));
}

enum class Outcome { fine, failed, not_here, no_privilege };

Outcome verify(const char* path, long limit) {
  libbpf_said.clear();
  const std::unique_ptr<bpf_object, void (*)(bpf_object*)> object(
      bpf_object__open_file(path, nullptr), bpf_object__close);
  if (!object) {
    fmt::print("{}: {}\n{}", path, std::strerror(errno), libbpf_said);
    return Outcome::failed;
  }
  std::vector<std::unique_ptr<Program>> programs;
  bpf_program* p = nullptr;
  bpf_object__for_each_program(p, object.get()) {
    programs.push_back(std::make_unique<Program>(p));
    bpf_program__set_log_level(p, kStatistics);
    bpf_program__set_log_buf(p, programs.back()->log.data(), kLog);
  }
  const std::string_view file =
      std::string_view(path).substr(std::string_view(path).rfind('/') + 1);
  const int error = bpf_object__load(object.get());
  if (error == -EPERM || error == -EACCES) {
    // The verifier's refusals are EACCES, too; then there is a log.
    bool looked = false;
    for (const auto& each : programs) looked |= each->log[0] != '\0';
    if (!looked) return Outcome::no_privilege;
  }
  // No such tracepoint, or no such kernel function, in the kernel's BTF.
  if (error == -ESRCH || libbpf_said.find("extern (func ksym)") != std::string::npos) {
    fmt::print("{}: not for this kernel\n", file);
    return Outcome::not_here;
  }
  Outcome outcome = error == 0 ? Outcome::fine : Outcome::failed;
  if (error != 0) {
    fmt::print("{}: {}\n{}", file, std::strerror(-error), libbpf_said);
    explain(path);
  }
  for (const auto& each : programs) {
    const long n = processed(each->log);
    const int stack = Stack(each->program).most();
    const bool over = n > limit || stack > kMostStack;
    if (n < 0 && error == 0) outcome = Outcome::failed;  // nothing was measured
    if (over) outcome = Outcome::failed;
    if (n < 0 && error != 0) continue;  // not looked at any more
    fmt::print("{} {}: {} instructions, {} bytes of stack{}\n", file,
               bpf_program__name(each->program), n, stack,
               over ? fmt::format(": more than {} or {}", limit, kMostStack) : "");
  }
  return outcome;
}

}  // namespace

int main(int argc, char** argv) {
  long limit = 300'000;
  int first = 1;
  if (argc > 2 && std::string_view(argv[1]) == "--limit") {
    limit = std::atol(argv[2]);
    first = 3;
  }
  if (first >= argc) {
    fmt::print(stderr, "usage: {} [--limit N] OBJECT...\n", argv[0]);
    return 2;
  }
  libbpf_set_print(note);
  int passed = 0;
  int failed = 0;
  int skipped = 0;
  for (int i = first; i < argc; ++i) {
    switch (verify(argv[i], limit)) {
      case Outcome::fine:
        ++passed;
        break;
      case Outcome::failed:
        ++failed;
        break;
      case Outcome::not_here:
        ++skipped;
        break;
      case Outcome::no_privilege:
        fmt::print("verifier: skipped: loading kernel programs needs CAP_BPF and CAP_PERFMON\n");
        return 77;
    }
  }
  fmt::print("verifier: {} passed, {} failed, {} skipped\n", passed, failed, skipped);
  return failed > 0 ? 1 : 0;
}
