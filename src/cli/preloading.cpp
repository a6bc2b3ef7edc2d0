#include "cli/preloading.h"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <cstring>

#include "base/fd.h"

namespace olly::cli {
namespace {

constexpr int kMaxScripts = 4;  // an interpreter may be a script, as far as the kernel goes

#if defined(__x86_64__)
constexpr unsigned kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr unsigned kMachine = EM_AARCH64;
#else
constexpr unsigned kMachine = EM_NONE;
#endif

bool is_file(const std::string& path, int mode) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
         ::access(path.c_str(), mode) == 0;
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

// What an executable's headers tell.
struct Image {
  bool elf = false;
  bool native = false;      // 64-bit, of this machine
  bool dynamic = false;     // has an interpreter: the loader runs
  bool go = false;          // has Go's build information
  std::string interpreter;  // of a script
};

bool read_at(int fd, void* to, std::size_t size, std::uint64_t at) {
  return ::pread(fd, to, size, static_cast<off_t>(at)) == static_cast<ssize_t>(size);
}

bool has_go_section(int fd, const Elf64_Ehdr& head) {
  Elf64_Shdr names{};
  if (head.e_shentsize != sizeof names || head.e_shstrndx >= head.e_shnum) return false;
  if (!read_at(fd, &names, sizeof names, head.e_shoff + head.e_shstrndx * sizeof names)) {
    return false;
  }
  for (unsigned i = 0; i < head.e_shnum && i < 256; ++i) {
    Elf64_Shdr section{};
    char name[16] = "";
    if (!read_at(fd, &section, sizeof section, head.e_shoff + i * sizeof section)) return false;
    if (::pread(fd, name, sizeof name - 1, static_cast<off_t>(names.sh_offset + section.sh_name)) <=
        0) {
      return false;
    }
    if (std::strcmp(name, ".go.buildinfo") == 0) return true;
  }
  return false;
}

Image examine(const std::string& path) {
  Image image;
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char first[256] = "";
  if (!fd || ::read(fd.get(), first, sizeof first - 1) <= 0) return image;
  if (first[0] == '#' && first[1] == '!') {
    const char* word = first + 2 + std::strspn(first + 2, " \t");
    image.interpreter.assign(word, std::strcspn(word, " \t\r\n"));
    return image;
  }
  Elf64_Ehdr head{};
  if (!read_at(fd.get(), &head, sizeof head, 0)) return image;
  image.elf = std::memcmp(head.e_ident, ELFMAG, SELFMAG) == 0;
  image.native = image.elf && head.e_ident[EI_CLASS] == ELFCLASS64 && head.e_machine == kMachine;
  if (!image.native) return image;
  for (unsigned i = 0; i < head.e_phnum && i < 128; ++i) {
    Elf64_Phdr segment{};
    if (!read_at(fd.get(), &segment, sizeof segment, head.e_phoff + i * sizeof segment)) break;
    image.dynamic |= segment.p_type == PT_INTERP;
  }
  image.go = has_go_section(fd.get(), head);
  return image;
}

std::unexpected<Error> blind(const std::string& program, std::string_view why,
                             std::string_view instead) {
  return fail(ErrorCode::unsupported, fmt::format("{} {}", program, why),
              fmt::format("to see it, {}", instead));
}

constexpr std::string_view kKernel =
    "observe it through the kernel: as root, or with CAP_BPF and CAP_PERFMON";

}  // namespace

std::string find_library() {
  char buffer[PATH_MAX];
  const ssize_t n = ::readlink("/proc/self/exe", buffer, sizeof buffer);
  if (n <= 0) return {};
  std::string folder(buffer, static_cast<std::size_t>(n));
  folder.resize(folder.rfind('/'));
  for (const char* place : {"/libolly.so", "/../lib/libolly.so", "/../lib/olly/libolly.so"}) {
    char resolved[PATH_MAX];
    // LD_PRELOAD splits its value at spaces and colons.
    if (is_file(folder + place, R_OK) &&
        ::realpath((folder + place).c_str(), resolved) != nullptr &&
        std::strpbrk(resolved, " :") == nullptr) {
      return resolved;
    }
  }
  return {};
}

std::string find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return is_file(name, X_OK) ? name : "";
  std::string path = variable("PATH");
  if (path.empty()) path = "/bin:/usr/bin";
  for (std::size_t at = 0; at <= path.size();) {
    const std::size_t end = std::min(path.find(':', at), path.size());
    const std::string folder = path.substr(at, end - at);
    const std::string file = (folder.empty() ? "." : folder) + "/" + name;
    if (is_file(file, X_OK)) return file;
    at = end + 1;
  }
  return {};
}

Result<void> takes_library(const std::string& program) {
  std::string path = program;
  for (int i = 0; i < kMaxScripts; ++i) {
    const Image image = examine(path);
    if (!image.interpreter.empty()) {
      path = image.interpreter;
      continue;
    }
    if (!image.elf) return {};  // not readable, or for execvp's shell
    struct stat status {};
    ::stat(path.c_str(), &status);
    const bool set_user = (status.st_mode & S_ISUID) != 0 && status.st_uid != ::geteuid();
    const bool set_group = (status.st_mode & S_ISGID) != 0 && status.st_gid != ::getegid();
    char capabilities[64];
    const bool capable = ::geteuid() != 0 && ::getxattr(path.c_str(), "security.capability",
                                                        capabilities, sizeof capabilities) > 0;
    if (!image.native) {
      return blind(path, "is a program of another architecture, which cannot load libolly.so",
                   kKernel);
    }
    if (image.go) {
      return blind(path,
                   "is written in Go, which makes its system calls without libc: libolly.so would "
                   "see nothing",
                   kKernel);
    }
    if (!image.dynamic) {
      return blind(path, "is statically linked: libolly.so cannot be loaded into it", kKernel);
    }
    if (set_user || set_group || capable) {
      return blind(
          path,
          "runs with other rights than yours (setuid, setgid or file capabilities): "
          "the loader ignores libolly.so",
          "run it as a user who has its rights, or observe it through the kernel, as root");
    }
    return {};
  }
  return {};
}

std::vector<Setting> preload_settings(const std::string& library, const std::string& socket,
                                      const config::Config& config) {
  const std::string before = variable("LD_PRELOAD");
  std::vector<Setting> settings = {
      {"LD_PRELOAD", before.empty() ? library : library + ":" + before},
      {"OLLY_HOOK_SOCKET_PATH", socket},
      {"OLLY_HOOK_SOCKET_RING_SIZE", std::to_string(config.hook.socket_ring_size)}};
  if (!config.tracing.inject.empty()) {
    settings.push_back({"OLLY_HOOK_SOCKET_ATTACH_WAIT",
                        fmt::format("{}ms", config.hook.socket_attach_wait.count())});
  }
  return settings;
}

PrivateFolder::PrivateFolder() {
  for (const std::string& place :
       {variable("XDG_RUNTIME_DIR"), variable("TMPDIR"), std::string("/tmp")}) {
    std::string name = place + "/olly-run-XXXXXX";
    if (place.empty() || name.size() > 80) continue;  // a socket's path is short
    if (::mkdtemp(name.data()) != nullptr) {
      path_ = name;
      return;
    }
  }
}

PrivateFolder::~PrivateFolder() {
  if (path_.empty()) return;
  ::unlink(socket().c_str());
  ::rmdir(path_.c_str());
}

}  // namespace olly::cli
