#include "hook/ebpf/tls/registry.h"

#include <bpf/libbpf.h>
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>

#include "base/log.h"

namespace olly::tls {
namespace {

constexpr std::size_t kMaxOthers = 4096;
constexpr Nanos kLookPeriod = 5 * kSecond;
constexpr std::size_t kMaxMaps = 4 * 1024 * 1024;  // of one process's /proc/PID/maps

std::string_view base_name(std::string_view path) noexcept {
  return path.substr(path.rfind('/') + 1);
}

std::uint32_t number(std::string_view text) noexcept {
  std::uint32_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  return error == std::errc() && end == text.data() + text.size() ? n : 0;
}

template <class F>
void each_process(F&& f) {
  DIR* proc = opendir("/proc");
  if (proc == nullptr) return;
  while (const dirent* entry = readdir(proc)) {
    if (const std::uint32_t pid = number(entry->d_name); pid != 0) f(pid);
  }
  closedir(proc);
}

// Calls f(path, inode) for each executable mapping of a file.
template <class F>
void each_mapping(std::uint32_t pid, F&& f) {
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

}  // namespace

bool may_be_tls_library(std::string_view path) noexcept {
  const std::string_view name = base_name(path);
  return name.starts_with("libssl") || name.starts_with("libgnutls");
}

Registry::Registry(RegistryOptions options, bpf_program* call, bpf_program* result,
                   std::function<bool(std::uint32_t)> wanted, std::function<void(bool)> armed)
    : options_(options),
      call_(call),
      result_(result),
      wanted_(std::move(wanted)),
      armed_(std::move(armed)) {
  if (options_.metrics != nullptr) {
    probed_ = &options_.metrics->gauge("olly_tls_files", "TLS libraries that are probed");
    refused_ =
        &options_.metrics->counter("olly_tls_refused_total", "TLS libraries that are not probed");
  }
}

Registry::~Registry() { stop(); }

void Registry::start() {
  if (auto watching = watch_.start(); !watching) {
    log::warn("TLS: libraries that are loaded from now on are not seen: {}",
              watching.error().message);
  }
  scan();
  publish();
}

void Registry::scan() {
  const auto self = static_cast<std::uint32_t>(getpid());
  each_process([&](std::uint32_t pid) {
    if (pid != self) scan_process(pid);
  });
}

void Registry::scan_process(std::uint32_t pid) {
  if (!wanted_(pid)) return;
  std::vector<std::pair<std::string, std::uint64_t>> found;
  each_mapping(pid, [&](std::string_view path, std::uint64_t inode) {
    if (!may_be_tls_library(path) && !is_executable(pid, path)) return;
    found.emplace_back(path, inode);
  });
  for (const auto& [path, inode] : found) consider(pid, path, inode);
}

void Registry::poll(Nanos now) {
  const auto self = static_cast<std::uint32_t>(getpid());
  const bool lost = watch_.drain([&](const Mapped& m) {
    if (m.pid == self || m.path.empty() || m.path[0] != '/' || !wanted_(m.pid)) return;
    if (!may_be_tls_library(m.path) && !is_executable(m.pid, m.path)) return;
    consider(m.pid, std::string(m.path), m.inode);
  });
  if (lost) scan();
  if (now >= next_look_) {
    next_look_ = now + kLookPeriod;
    forget_unused();
  }
  publish();
}

void Registry::consider(std::uint32_t pid, const std::string& path, std::uint64_t inode) {
  const UniqueFd fd(
      ::open(fmt::format("/proc/{}/root{}", pid, path).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (!fd || fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) return;
  if (status.st_ino != inode) return;  // replaced in the meantime
  const FileKey key{status.st_dev, status.st_ino};
  if (files_.contains(key) || others_.contains(key)) return;
  if (others_.size() >= kMaxOthers) others_.clear();
  const auto elf = ElfFile::read(fd.get());
  const LibrarySites library = elf ? find_sites(*elf) : LibrarySites{};
  if (library.library.empty()) {
    others_[key] = true;
    return;
  }
  if (const std::string why = library.why_not(); !why.empty()) {
    others_[key] = true;
    if (refused_ != nullptr) refused_->add();
    log::warn("TLS: {} ({}, build id {}) is not covered: {}", path, library.library,
              library.build_id, why);
    return;
  }
  if (files_.size() >= options_.max_files) {
    if (!full_) {
      log::warn("TLS: {} is not covered: hook.ebpf.tls.max_files ({}) are", path,
                options_.max_files);
    }
    full_ = true;
    return;
  }
  File file{path, pid, {}};
  if (files_.empty()) armed_(true);
  if (!attach(file, fd.get(), library)) {
    others_[key] = true;
    if (refused_ != nullptr) refused_->add();
    return;
  }
  log::info("TLS: {} ({}, build id {}) is covered by {} probes", path, library.library,
            library.build_id, file.links.size());
  files_.emplace(key, std::move(file));
}

// The results' sites first: a call that is found open has its end covered.
bool Registry::attach(File& file, int fd, const LibrarySites& library) {
  std::vector<Site> sites = library.all();
  std::stable_partition(sites.begin(), sites.end(), [](const Site& s) { return s.result; });
  const std::string path = fmt::format("/proc/self/fd/{}", fd);
  for (const Site& site : sites) {
    LIBBPF_OPTS(bpf_uprobe_opts, opts, .bpf_cookie = site.cookie());
    bpf_link* link = bpf_program__attach_uprobe_opts(site.result ? result_ : call_, -1,
                                                     path.c_str(), site.offset, &opts);
    if (link == nullptr) {
      log::warn("TLS: {} is not covered: probe at {:#x}: {}", file.path, site.offset,
                std::strerror(errno));
      detach(file);
      return false;
    }
    file.links.push_back(link);
  }
  return true;
}

void Registry::detach(File& file) noexcept {
  for (auto it = file.links.rbegin(); it != file.links.rend(); ++it) bpf_link__destroy(*it);
  file.links.clear();
}

std::uint32_t Registry::user_of(FileKey key) const {
  std::uint32_t user = 0;
  each_process([&](std::uint32_t pid) {
    if (user != 0) return;
    each_mapping(pid, [&](std::string_view path, std::uint64_t inode) {
      if (user != 0 || inode != key.inode) return;
      struct stat status {};
      const std::string full = fmt::format("/proc/{}/root{}", pid, path);
      if (::stat(full.c_str(), &status) != 0 || status.st_dev == key.device) user = pid;
    });
  });
  return user;
}

void Registry::forget_unused() {
  for (auto it = files_.begin(); it != files_.end();) {
    File& file = it->second;
    if (::access(fmt::format("/proc/{}", file.user).c_str(), F_OK) != 0) {
      file.user = user_of(it->first);
    }
    if (file.user != 0) {
      ++it;
      continue;
    }
    log::info("TLS: {} has no users any more", file.path);
    detach(file);
    full_ = false;
    it = files_.erase(it);
  }
  if (files_.empty()) armed_(false);
}

void Registry::publish() {
  if (probed_ != nullptr) probed_->set(static_cast<std::int64_t>(files_.size()));
}

void Registry::stop() noexcept {
  watch_.stop();
  for (auto& [key, file] : files_) detach(file);
  files_.clear();
  armed_(false);
}

}  // namespace olly::tls
