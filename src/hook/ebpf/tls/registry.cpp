#include "hook/ebpf/tls/registry.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <exception>
#include <utility>

#include "base/log.h"
#include "hook/ebpf/kernel_abi.h"
#include "hook/ebpf/tls/maps.h"
#include "hook/ebpf/tls/probes.h"

namespace olly::tls {
namespace {

constexpr std::size_t kMaxOthers = 4096;
constexpr Nanos kLookPeriod = 5 * kSecond;
}  // namespace

Registry::Registry(RegistryOptions options, ProbePrograms programs,
                   std::function<bool(std::uint32_t)> wanted,
                   std::function<void(std::uint32_t)> armed)
    : options_(options), programs_(programs), wanted_(std::move(wanted)), armed_(std::move(armed)) {
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
  const bool leaving = still_taking_off();
  if (lost || (!leaving && std::exchange(met_again_, false))) scan();
  if (now >= next_look_) {
    next_look_ = now + kLookPeriod;
    forget_unused();
  }
  publish();
}

void Registry::consider(std::uint32_t pid, const std::string& path, std::uint64_t inode) {
  FileKey key;
  const UniqueFd fd = open_of(pid, path, inode, key);
  if (!fd) return;
  if (files_.contains(key) || others_.contains(key)) return;
  if (leaving_.contains(key)) {
    met_again_ = true;  // two probes at one place would tell everything twice
    return;
  }
  if (others_.size() >= kMaxOthers) others_.clear();
  const auto elf = ElfFile::read(fd.get());
  const LibrarySites library = elf ? find_sites(*elf, options_.dear) : LibrarySites{};
  if (library.library.empty()) {
    others_[key] = true;
    return;
  }
  if (const std::string why = library.why_not(); !why.empty()) {
    others_[key] = true;
    if (refused_ != nullptr) refused_->add();
    log::debug("TLS: {} ({}, build id {}) is not covered: {}", path, library.library,
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
  const std::vector<Site> sites = library.all();
  const std::uint32_t kind = sites.front().go() ? OLLY_TLS_ARMED_GO : OLLY_TLS_ARMED;
  armed_(kinds() | kind);
  auto probes = Probes::attach(programs_, fd.get(), sites);
  if (!probes) {
    armed_(kinds());
    others_[key] = true;
    if (refused_ != nullptr) refused_->add();
    log::warn("TLS: {} is not covered: {}", path, probes.error().message);
    return;
  }
  if (library.dear()) {
    log::warn("TLS: {} ({}, build id {}) is covered by expensive probes, some 10 us a call", path,
              library.library, library.build_id);
  } else {
    log::debug("TLS: {} ({}, build id {}) is covered by {} probes", path, library.library,
               library.build_id, sites.size());
  }
  files_.emplace(key, File{path, pid, kind, std::move(*probes)});
}

std::uint32_t Registry::kinds() const {
  std::uint32_t kinds = 0;
  for (const auto& [key, file] : files_) kinds |= file.kind;
  return kinds;
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
  if (still_taking_off()) return;
  std::map<FileKey, File> unused;
  for (auto it = files_.begin(); it != files_.end();) {
    File& file = it->second;
    if (::access(fmt::format("/proc/{}", file.user).c_str(), F_OK) != 0) {
      file.user = user_of(it->first);
    }
    const auto at = it++;
    if (file.user != 0) continue;
    log::debug("TLS: {} has no users any more", file.path);
    full_ = false;
    unused.insert(files_.extract(at));
  }
  armed_(kinds());
  take_off(std::move(unused));
}

void Registry::take_off(std::map<FileKey, File> files) noexcept {
  if (files.empty()) return;
  for (const auto& [key, file] : files) leaving_[key] = true;
  try {
    removal_ =
        std::async(std::launch::async, [gone = std::move(files)]() mutable { gone.clear(); });
  } catch (const std::exception&) {  // no thread to be had: it was done here, with `gone`
    leaving_.clear();
  }
}

bool Registry::still_taking_off() {
  if (!removal_.valid()) return false;
  if (removal_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return true;
  removal_.get();
  leaving_.clear();
  return false;
}

void Registry::publish() {
  if (probed_ != nullptr) probed_->set(static_cast<std::int64_t>(files_.size()));
}

void Registry::stop() noexcept {
  watch_.stop();
  armed_(0);
  if (removal_.valid()) removal_.wait();
  take_off(std::exchange(files_, {}));
}

}  // namespace olly::tls
