#include <algorithm>
#include <array>
#include <vector>

#include "discovery/process_table.h"

namespace olly::discovery {
namespace {

std::string_view base_name(std::string_view path) {
  const auto slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

std::vector<std::string_view> split_nul(std::string_view text) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const auto end = text.find('\0');
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return parts;
}

std::string_view without_suffix(std::string_view name) {
  for (std::string_view suffix :
       {".py", ".js", ".mjs", ".cjs", ".ts", ".jar", ".rb", ".pl", ".php", ".sh", ".pyc"}) {
    if (name.size() > suffix.size() && name.ends_with(suffix)) {
      return name.substr(0, name.size() - suffix.size());
    }
  }
  return name;
}

// An interpreter's options that take the next word as their value.
struct Interpreter {
  std::string_view prefix;  // "python" also names python3 and python3.11
  std::string_view value_options;
  std::string_view module_option;
};
constexpr std::array<Interpreter, 9> kInterpreters = {{
    {"python", " -W -X --check-hash-based-pycs ", "-m"},
    {"pypy", " -W -X ", "-m"},
    {"node", " -r --require --import --loader -C --conditions --env-file ", ""},
    {"nodejs", " -r --require --import --loader -C --conditions --env-file ", ""},
    {"java",
     " -cp -classpath --class-path -p --module-path --add-modules --add-opens --add-exports ",
     "-jar"},
    {"ruby", " -r -I -C ", ""},
    {"perl", " -I ", ""},
    {"php", " -c -d -z ", "-f"},
    {"bash", "", ""},
}};

bool is_version(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || c == '.'; });
}

const Interpreter* interpreter_of(std::string_view exe_name) {
  if (exe_name == "sh" || exe_name == "dash") return &kInterpreters.back();
  for (const Interpreter& i : kInterpreters) {
    if (exe_name.starts_with(i.prefix) && is_version(exe_name.substr(i.prefix.size()))) return &i;
  }
  return nullptr;
}

// The script, module, jar or main class among an interpreter's arguments; empty = none.
std::string_view program_of(const Interpreter& interpreter,
                            std::span<const std::string_view> args) {
  for (std::size_t i = 1; i < args.size(); ++i) {
    const std::string_view arg = args[i];
    if (!interpreter.module_option.empty() && arg == interpreter.module_option) {
      return i + 1 < args.size() ? args[i + 1] : std::string_view{};
    }
    if (arg == "-c" || arg == "-e" || arg == "--eval" || arg == "-p") {
      if (interpreter.prefix != "java") return {};  // a program text, not a name
    }
    if (arg == "--") return i + 1 < args.size() ? args[i + 1] : std::string_view{};
    if (arg.starts_with('-') && arg.size() > 1) {
      const std::string padded = " " + std::string(arg) + " ";
      if (interpreter.value_options.find(padded) != std::string_view::npos) ++i;
      continue;
    }
    return arg;
  }
  return {};
}

// Names go into metric labels and onto terminals, and the observed program chose them.
constexpr std::size_t kMaxName = 255;

std::string tame(std::string_view name) {
  std::string out(name.substr(0, kMaxName));
  // No character is cut in two.
  if (name.size() > kMaxName) {
    while (!out.empty() && (static_cast<unsigned char>(name[out.size()]) & 0xc0) == 0x80) {
      out.pop_back();
    }
  }
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '_';
  }
  return out;
}

}  // namespace

std::string service_name(std::string_view exe, std::string_view cmdline, std::string_view environ) {
  constexpr std::string_view kVariable = "OTEL_SERVICE_NAME=";
  for (std::string_view entry : split_nul(environ)) {
    if (entry.starts_with(kVariable) && entry.size() > kVariable.size()) {
      return tame(entry.substr(kVariable.size()));
    }
  }
  const std::string_view exe_name = base_name(exe);
  const std::vector<std::string_view> args = split_nul(cmdline);
  if (const Interpreter* interpreter = interpreter_of(exe_name)) {
    const std::string_view program = program_of(*interpreter, args);
    if (!program.empty()) {
      const std::string_view name = without_suffix(base_name(program));
      if (!name.empty()) return tame(name);
    }
  }
  return tame(exe_name.empty() ? std::string_view("unknown_service") : exe_name);
}

std::string container_id(std::string_view cgroup) {
  const auto is_hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  std::size_t run = 0;
  for (std::size_t i = 0; i <= cgroup.size(); ++i) {
    if (i < cgroup.size() && is_hex(cgroup[i])) {
      ++run;
      continue;
    }
    if (run == 64) return std::string(cgroup.substr(i - 64, 64));
    run = 0;
  }
  return {};
}

}  // namespace olly::discovery
