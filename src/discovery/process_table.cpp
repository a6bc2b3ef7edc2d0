#include "discovery/process_table.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <fnmatch.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <climits>

#include "base/fd.h"

namespace olly::discovery {
namespace {

std::string read_file(const std::string& path, std::size_t limit) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  if (!fd) return text;
  char buffer[4096];
  while (text.size() < limit) {
    const ssize_t n = ::read(fd.get(), buffer, sizeof buffer);
    if (n <= 0) break;
    text.append(buffer, static_cast<std::size_t>(n));
  }
  return text;
}

std::string read_link(const std::string& path) {
  char buffer[PATH_MAX];
  const ssize_t n = ::readlink(path.c_str(), buffer, sizeof buffer);
  if (n <= 0) return {};
  std::string target(buffer, static_cast<std::size_t>(n));
  constexpr std::string_view kDeleted = " (deleted)";
  if (target.ends_with(kDeleted)) target.resize(target.size() - kDeleted.size());
  return target;
}

std::string name_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

}  // namespace

ProcessTable::ProcessTable(ProcessTableOptions options, Decided decided)
    : options_(std::move(options)), decided_(std::move(decided)) {}

ProcessPtr ProcessTable::process(std::uint32_t pid) noexcept {
  Entry& entry = entries_[pid];
  entry.used = ++clock_;
  if (!entry.process) {
    entry.process = read(pid, entry);
    if (decided_) decided_(*entry.process);
    if (entries_.size() > options_.limit) {
      const ProcessPtr result = entry.process;
      shrink();
      return result;
    }
  }
  return entry.process;
}

void ProcessTable::on_process(const ProcessEvent& event) noexcept {
  if (event.kind == ProcessEvent::Kind::exit) {
    // Events of its last calls have all been handed on: they are older than its exit.
    entries_.erase(event.pid);
    return;
  }
  if (entries_.size() >= options_.limit) shrink();  // exits can be lost
  Entry& entry = entries_[event.pid];
  // The number may have belonged to a process whose exit was lost.
  if (event.kind == ProcessEvent::Kind::fork) entry = Entry{};
  entry.used = ++clock_;
  entry.hint.comm = event.comm;
  if (event.parent_pid != 0) entry.hint.parent = event.parent_pid;
  if (event.kind == ProcessEvent::Kind::fork) {
    const auto parent = entries_.find(event.parent_pid);
    if (parent != entries_.end()) {
      entry.selected_by_parent = parent->second.selected_by_parent;
      if (parent->second.process) {
        entry.hint.filename = parent->second.process->exe;
        entry.selected_by_parent |= std::ranges::any_of(
            options_.include, [&](const auto& s) { return s.pid && *s.pid == event.parent_pid; });
      }
    }
    entry.selected_by_parent |=
        std::ranges::find(options_.roots, event.parent_pid) != options_.roots.end();
    return;
  }
  entry.hint.filename = event.filename;
  entry.process = read(event.pid, entry);
  if (decided_) decided_(*entry.process);
}

ProcessPtr ProcessTable::read(std::uint32_t pid, Entry& entry) {
  const std::string base = fmt::format("{}/{}/", options_.proc, pid);
  auto process = std::make_shared<Process>();
  process->pid = pid;
  process->exe = read_link(base + "exe");
  if (process->exe.empty()) process->exe = entry.hint.filename;
  if (process->exe.empty()) process->exe = entry.hint.comm;
  process->service = service_name(process->exe, read_file(base + "cmdline", 64 * 1024),
                                  read_file(base + "environ", 256 * 1024));
  const std::string exe_name = name_of(process->exe);
  process->runtime = runtime_of(exe_name, base + "exe", process->goid_offset);

  auto resource = std::make_shared<Resource>();
  resource->service_name = process->service;
  resource->pid = pid;
  resource->attributes.add("service.name", process->service);
  resource->attributes.add("process.pid", static_cast<std::int64_t>(pid));
  if (!exe_name.empty()) resource->attributes.add("process.executable.name", exe_name);
  if (process->exe.starts_with('/')) {
    resource->attributes.add("process.executable.path", process->exe);
  }
  if (!options_.host_name.empty()) resource->attributes.add("host.name", options_.host_name);
  const std::string container = container_id(read_file(base + "cgroup", 16 * 1024));
  if (!container.empty()) resource->attributes.add("container.id", container);
  process->resource = std::move(resource);
  process->observed = selected(*process, pid, entry);
  return process;
}

bool ProcessTable::matches(const config::ProcessSelector& selector, const Process& process) const {
  if (selector.pid) return *selector.pid == process.pid;
  if (selector.exe) return ::fnmatch(selector.exe->c_str(), process.exe.c_str(), 0) == 0;
  return selector.service && *selector.service == process.service;
}

bool ProcessTable::selected(const Process& process, std::uint32_t pid, Entry& entry) {
  if (pid == static_cast<std::uint32_t>(::getpid())) return false;
  for (const auto& selector : options_.exclude) {
    if (matches(selector, process)) return false;
  }
  const bool is_root = std::ranges::find(options_.roots, pid) != options_.roots.end();
  if (is_root) entry.selected_by_parent = true;
  if (options_.include.empty() && options_.roots.empty()) return true;
  if (entry.selected_by_parent) return true;
  return std::ranges::any_of(options_.include,
                             [&](const auto& selector) { return matches(selector, process); });
}

void ProcessTable::scan() {
  DIR* directory = ::opendir(options_.proc.c_str());
  if (directory == nullptr) return;
  while (const dirent* item = ::readdir(directory)) {
    const std::string_view name = item->d_name;
    std::uint32_t pid = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (error != std::errc{} || end != name.data() + name.size()) continue;
    if (entries_.size() >= options_.limit) break;
    // Kernel threads have no program.
    if (!read_link(fmt::format("{}/{}/exe", options_.proc, pid)).empty()) process(pid);
  }
  ::closedir(directory);
}

// Forgets the half that was not used for longest; whoever comes back is read again.
void ProcessTable::shrink() {
  std::vector<std::uint64_t> ages;
  ages.reserve(entries_.size());
  for (const auto& [pid, entry] : entries_) ages.push_back(entry.used);
  const auto middle = ages.begin() + static_cast<std::ptrdiff_t>(ages.size() / 2);
  std::ranges::nth_element(ages, middle);
  std::erase_if(entries_, [limit = *middle](const auto& item) { return item.second.used < limit; });
}

}  // namespace olly::discovery
