// Loads one capture back end into the kernel and maps what it shares with the agent.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "config/config.h"
#include "hook/ebpf/kernel_abi.h"
#include "hook/ebpf/ring.h"

struct bpf_object;
struct bpf_link;
struct bpf_program;

namespace olly {

struct HostFeatures;

// Owner of a memory mapping.
class Mapping {
 public:
  Mapping() = default;
  Mapping(void* address, std::size_t size) noexcept : address_(address), size_(size) {}
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();
  void* get() const noexcept { return address_; }

 private:
  void* address_ = nullptr;
  std::size_t size_ = 0;
};

struct LoadOptions {
  config::CaptureChoice capture = config::CaptureChoice::automatic;
  std::uint32_t max_copy = OLLY_MAX_COPY;
  std::uint64_t ring_bytes = 4 * 1024 * 1024;  // of each CPU's lane
  bool observe_unknown = true;
  bool all_new = false;
  bool tls = true;     // with the programs for TLS libraries
  bool parsed = true;  // somebody finds out protocols and says what to copy (olly record does not)
};

// A loaded and, after attach(), attached back end. Everything goes when it is destroyed.
class LoadedCapture {
 public:
  // Chooses the back end (automatic: sockio where the kernel has its tracepoints), loads it, makes
  // rings and mappings. Errors: privilege, unsupported; the message says what is missing.
  static Result<std::unique_ptr<LoadedCapture>> load(const LoadOptions& options);
  ~LoadedCapture();

  Result<void> attach();
  // Nothing that a socket moves goes unseen from now on: UNIX sockets made from now on are new.
  void sees_all() noexcept;
  void detach() noexcept;

  std::string_view name() const noexcept { return name_; }
  volatile olly_control& control() noexcept { return *control_; }
  std::span<olly_policy> policies() noexcept { return policies_; }
  std::span<const olly_cpu> counters() const noexcept { return counters_; }
  int processes_fd() const noexcept { return processes_fd_; }
  // One of those that others attach to libraries: call, result or go; null: it was not loaded.
  bpf_program* tls_program(std::string_view name) noexcept;
  // Its uprobe programs are to be attached many at a time.
  bool many_uprobes() const noexcept { return many_uprobes_; }
  std::span<const UniqueFd> ring_fds() const noexcept { return ring_fds_; }
  RingMerger& rings() noexcept { return rings_; }

 private:
  LoadedCapture() = default;
  Result<void> open_and_load(std::span<const std::uint8_t> object, const LoadOptions& options,
                             const HostFeatures& host);
  Result<void> make_rings();
  Result<void> map_shared(const LoadOptions& options);
  // From one lane to the next.
  std::uint64_t lane_stride() const noexcept {
    return sizeof(olly_lane) + lane_bytes_ + OLLY_LANE_SLACK;
  }

  std::string_view name_;
  bpf_object* object_ = nullptr;
  std::vector<bpf_link*> links_;
  std::vector<UniqueFd> ring_fds_;
  std::vector<Mapping> mappings_;
  volatile olly_control* control_ = nullptr;
  std::span<olly_policy> policies_;
  std::span<const olly_cpu> counters_;
  int processes_fd_ = -1;
  int cpus_ = 0;
  std::uint32_t lanes_ = 0;
  bool many_uprobes_ = false;
  std::uint64_t lane_bytes_ = 0;
  std::uint8_t* lane_memory_ = nullptr;
  RingMerger rings_;
};

// Size of each lane's data: `wanted` or less, so that all stay within 64 MiB; a power of two, at
// least 64 KiB.
std::uint64_t lane_size(std::uint64_t wanted, unsigned cpus) noexcept;
// Of each ring buffer, for what does not go into lanes.
std::uint64_t ring_size(std::uint64_t lane_bytes) noexcept;

}  // namespace olly
