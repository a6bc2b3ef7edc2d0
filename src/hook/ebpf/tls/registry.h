// The TLS libraries that are probed: by device and inode, each once for all processes that map it.
//
// Files are met at start, in /proc/PID/maps, and from then on when they are mapped as code
// (MapWatch), containers' by way of /proc/PID/root. A file whose last user is gone loses its
// probes; all do when the registry ends. Where each probe comes off on its own (before 6.6) that
// takes seconds, so a thread does it; a file that is used again meanwhile is probed again
// afterwards.
#pragma once

#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/time.h"
#include "hook/ebpf/tls/map_watch.h"
#include "hook/ebpf/tls/maps.h"
#include "hook/ebpf/tls/probes.h"
#include "hook/ebpf/tls/sites.h"
#include "metrics/registry.h"

namespace olly::tls {

struct RegistryOptions {
  std::size_t max_files = 64;
  bool dear = false;  // sites where the kernel single-steps, too
  MetricRegistry* metrics = nullptr;
};

class Registry {
 public:
  // `wanted`: whether a process is observed; `armed`: told OLLY_TLS_ARMED* before the first file
  // of a kind is probed, and when its last one is not any more.
  Registry(RegistryOptions options, ProbePrograms programs,
           std::function<bool(std::uint32_t pid)> wanted, std::function<void(std::uint32_t)> armed);
  ~Registry();

  // Probes what runs already. Without the events of new mappings it says so and goes on.
  void start();
  // Probes what a process has mapped: one that runs already and is observed from now on.
  void scan_process(std::uint32_t pid);
  // Descriptors to be polled along with the rings'.
  std::vector<int> fds() const { return watch_.fds(); }
  // What was mapped since the last call; and, once in a while, whose users are gone.
  void poll(Nanos now);
  // Probes come off from now on; all are when the registry is destroyed.
  void stop() noexcept;

  std::size_t files() const noexcept { return files_.size(); }

 private:
  struct File {
    std::string path;
    std::uint32_t user = 0;  // one process that maps it
    std::uint32_t kind = 0;  // OLLY_TLS_ARMED*
    Probes probes;
  };
  void scan();
  void consider(std::uint32_t pid, const std::string& path, std::uint64_t inode);
  void forget_unused();
  void take_off(std::map<FileKey, File> files) noexcept;
  bool still_taking_off();
  std::uint32_t kinds() const;
  std::uint32_t user_of(FileKey key) const;
  void publish();

  RegistryOptions options_;
  ProbePrograms programs_;
  std::function<bool(std::uint32_t)> wanted_;
  std::function<void(std::uint32_t)> armed_;
  MapWatch watch_;
  std::map<FileKey, File> files_;
  // Those whose probes are being taken off, and whether one of them was met again meanwhile.
  std::map<FileKey, bool> leaving_;
  std::future<void> removal_;
  bool met_again_ = false;
  // Files that were looked at and are not probed; bounded, forgotten all at once.
  std::map<FileKey, bool> others_;
  Nanos next_look_ = 0;
  bool full_ = false;
  Gauge* probed_ = nullptr;
  Counter* refused_ = nullptr;
};

}  // namespace olly::tls
