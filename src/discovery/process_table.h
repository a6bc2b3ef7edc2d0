// ProcessLookup over /proc: what is known of each process that made an event, bounded, with the
// selection of hook.include and hook.exclude applied. Pipeline thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "config/config.h"
#include "discovery/process.h"
#include "event/event.h"

namespace olly::discovery {

struct ProcessTableOptions {
  std::string proc = "/proc";  // tests give a tree of their own
  std::string host_name;
  std::size_t limit = 16384;  // processes kept; past it the table is emptied of those long unseen
  std::vector<config::ProcessSelector> include;
  std::vector<config::ProcessSelector> exclude;
  // `olly run`: only these and what they start.
  std::vector<std::uint32_t> roots;
};

class ProcessTable final : public ProcessLookup {
 public:
  // `decided` is called for each process as it becomes known, and again after exec.
  using Decided = std::function<void(const Process&)>;
  ProcessTable(ProcessTableOptions options, Decided decided);

  ProcessPtr process(std::uint32_t pid) noexcept override;
  void on_process(const ProcessEvent& event) noexcept;
  // Reads every program that runs now, so that a verdict and a Go program's layout are known before
  // its first event. Once, at start.
  void scan();
  std::size_t size() const noexcept { return entries_.size(); }

 private:
  struct Hint {  // what the kernel said, for processes that are gone before /proc can be read
    std::string comm;
    std::string filename;
    std::uint32_t parent = 0;
  };
  struct Entry {
    ProcessPtr process;
    Hint hint;
    bool selected_by_parent = false;
    std::uint64_t used = 0;
  };
  ProcessPtr read(std::uint32_t pid, Entry& entry);
  bool selected(const Process& process, std::uint32_t pid, Entry& entry);
  bool matches(const config::ProcessSelector& selector, const Process& process) const;
  void shrink();

  ProcessTableOptions options_;
  Decided decided_;
  std::unordered_map<std::uint32_t, Entry> entries_;
  std::uint64_t clock_ = 0;
};

// service.name as docs/configuration.md says: OTEL_SERVICE_NAME of the process's environment, else
// the script's or main class's name for an interpreter, else the executable's name. `cmdline` and
// `environ` are NUL-separated as in /proc.
std::string service_name(std::string_view exe, std::string_view cmdline, std::string_view environ);

// 64 hex digits from a line of /proc/PID/cgroup (docker, containerd, cri-o, podman); empty if none.
std::string container_id(std::string_view cgroup);

// What the executable is. `goid_offset` is set for Go versions whose runtime layout is known.
Runtime runtime_of(const std::string& exe_name, const std::string& path,
                   std::uint32_t& goid_offset);

}  // namespace olly::discovery
