#include "hook/ebpf/tls/maps.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstring>

namespace olly::tls {
namespace {

constexpr std::size_t kMaxMaps = 4 * 1024 * 1024;  // of one process's /proc/PID/maps

std::uint32_t number(std::string_view text) noexcept {
  std::uint32_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  return error == std::errc() && end == text.data() + text.size() ? n : 0;
}

}  // namespace

bool may_be_tls_library(std::string_view path) noexcept {
  const std::string_view name = path.substr(path.rfind('/') + 1);
  return name.starts_with("libssl") || name.starts_with("libgnutls");
}

void each_process(const std::function<void(std::uint32_t)>& f) {
  DIR* proc = opendir("/proc");
  if (proc == nullptr) return;
  while (const dirent* entry = readdir(proc)) {
    if (const std::uint32_t pid = number(entry->d_name); pid != 0) f(pid);
  }
  closedir(proc);
}

void each_mapping(std::uint32_t pid,
                  const std::function<void(std::string_view, std::uint64_t)>& f) {
  std::FILE* maps = std::fopen(fmt::format("/proc/{}/maps", pid).c_str(), "re");
  if (maps == nullptr) return;
  char line[4352];
  for (std::size_t total = 0; total < kMaxMaps && std::fgets(line, sizeof line, maps) != nullptr;) {
    total += std::strlen(line);
    char protection[5] = "";
    unsigned long long inode = 0;
    int at = 0;
    if (std::sscanf(line, "%*x-%*x %4s %*x %*x:%*x %llu %n", protection, &inode, &at) < 2) continue;
    if (protection[2] != 'x' || inode == 0 || at == 0 || line[at] != '/') continue;
    std::string_view path(line + at);
    while (!path.empty() && path.back() == '\n') path.remove_suffix(1);
    f(path, std::uint64_t{inode});
  }
  std::fclose(maps);
}

bool is_executable(std::uint32_t pid, std::string_view path) {
  char link[4096];
  const ssize_t n = readlink(fmt::format("/proc/{}/exe", pid).c_str(), link, sizeof link);
  return n > 0 && std::string_view(link, static_cast<std::size_t>(n)) == path;
}

UniqueFd open_of(std::uint32_t pid, std::string_view path, std::uint64_t inode, FileKey& key) {
  UniqueFd fd(
      ::open(fmt::format("/proc/{}/root{}", pid, path).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (!fd || fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode) || status.st_ino != inode) {
    return {};
  }
  key = {status.st_dev, status.st_ino};
  return fd;
}

}  // namespace olly::tls
