#include "hook/ebpf/loader.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <malloc.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstring>
#include <string>

#include "base/log.h"
#include "hook/ebpf/features.h"

extern "C" {
extern const std::uint8_t olly_bpf_sockio_begin[];
extern const std::uint8_t olly_bpf_sockio_end[];
#ifdef OLLY_HAVE_SYSCALL_CAPTURE
extern const std::uint8_t olly_bpf_syscall_begin[];
extern const std::uint8_t olly_bpf_syscall_end[];
#endif
}

namespace olly {
namespace {

constexpr std::uint64_t kAllLanes = 64ull * 1024 * 1024;
constexpr std::uint64_t kSmallestLane = 64ull * 1024;

// Attached to libraries, by tls::Registry. There are two of each, see bpf/tls/probes.h.
constexpr const char* kTlsPrograms = "olly_tls_";
constexpr std::string_view kBare = "_bare";
constexpr int kUprobeMulti = 48;  // BPF_TRACE_UPROBE_MULTI, which older headers do not have

// The back ends, best first.
struct Backend {
  config::CaptureChoice choice;
  const std::uint8_t* begin;
  const std::uint8_t* end;
  std::string (HostFeatures::*why_not)() const;
};
const Backend kBackends[] = {
    {config::CaptureChoice::sockio, olly_bpf_sockio_begin, olly_bpf_sockio_end,
     &HostFeatures::why_not_sockio},
#ifdef OLLY_HAVE_SYSCALL_CAPTURE
    {config::CaptureChoice::syscall, olly_bpf_syscall_begin, olly_bpf_syscall_end,
     &HostFeatures::why_not_syscall},
#endif
};

// libbpf's own words go to our log: its warnings are what a refused program is found by.
int print_libbpf(libbpf_print_level level, const char* format, va_list args) {
  if (level == LIBBPF_DEBUG || log::level() > log::Level::debug) return 0;
  char text[512];
  const int n = std::vsnprintf(text, sizeof text, format, args);
  if (n <= 0) return 0;
  std::string_view view(text, std::min<std::size_t>(n, sizeof text - 1));
  while (!view.empty() && view.back() == '\n') view.remove_suffix(1);
  log::debug("{}", view);
  return 0;
}

std::unexpected<Error> system_error(std::string_view what, int error) {
  const bool denied = error == EPERM || error == EACCES;
  return fail(denied ? ErrorCode::privilege : ErrorCode::io,
              fmt::format("{}: {}", what, std::strerror(error)),
              denied
                  ? "CAP_BPF and CAP_PERFMON are needed, and no security module that forbids bpf()"
                  : "");
}

// Older kernels give an array's value no more than 4 MiB.
bool array_holds(std::uint64_t value_size) noexcept {
  LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);
  const UniqueFd map(bpf_map_create(BPF_MAP_TYPE_ARRAY, "olly_size", sizeof(std::uint32_t),
                                    static_cast<std::uint32_t>(value_size), 1, &opts));
  return static_cast<bool>(map);
}

Result<const Backend*> choose(config::CaptureChoice wanted, const HostFeatures& host) {
  std::string reasons;
  for (const Backend& backend : kBackends) {
    if (wanted != config::CaptureChoice::automatic && wanted != backend.choice) continue;
    const std::string why = (host.*backend.why_not)();
    if (why.empty()) return &backend;
    if (reasons.find(why) == std::string::npos) {
      reasons +=
          fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", capture_name(backend.choice), why);
    }
  }
  if (reasons.empty()) {
    return fail(ErrorCode::unsupported,
                fmt::format("this build has no capture back end '{}'", capture_name(wanted)));
  }
  return fail(host.missing_capabilities.empty() ? ErrorCode::unsupported : ErrorCode::privilege,
              std::move(reasons), host.hint());
}

}  // namespace

Mapping::Mapping(Mapping&& other) noexcept
    : address_(std::exchange(other.address_, nullptr)), size_(other.size_) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(address_, other.address_);
  std::swap(size_, other.size_);
  return *this;
}

Mapping::~Mapping() {
  if (address_ != nullptr) munmap(address_, size_);
}

std::uint64_t lane_size(std::uint64_t wanted, unsigned cpus) noexcept {
  const std::uint64_t most = std::min(wanted, kAllLanes / std::max(cpus, 1u));
  std::uint64_t size = kSmallestLane;
  while (size * 2 <= most) size *= 2;
  return size;
}

std::uint64_t ring_size(std::uint64_t lane_bytes) noexcept {
  return std::max<std::uint64_t>(lane_bytes / 4, kSmallestLane);
}

Result<std::unique_ptr<LoadedCapture>> LoadedCapture::load(const LoadOptions& options) {
  const HostFeatures host = probe_host();
  const auto backend = choose(options.capture, host);
  if (!backend) return std::unexpected(backend.error());
  LoadOptions chosen = options;
  for (;;) {
    std::unique_ptr<LoadedCapture> loaded(new LoadedCapture);
    loaded->name_ = capture_name((*backend)->choice);
    const auto done = loaded->open_and_load({(*backend)->begin, (*backend)->end}, chosen, host);
    malloc_trim(0);  // libbpf parsed the kernel's types: 11 MB at the peak
    if (done) return loaded;
    if (!chosen.tls || done.error().code == ErrorCode::privilege) {
      return std::unexpected(done.error());
    }
    // A kernel that nobody has tried may refuse them; the others need not go with them.
    log::warn("TLS is not seen: {} (with the programs for TLS)", done.error().message);
    chosen.tls = false;
  }
}

LoadedCapture::~LoadedCapture() {
  detach();
  if (object_ != nullptr) bpf_object__close(object_);
}

Result<void> LoadedCapture::open_and_load(std::span<const std::uint8_t> object,
                                          const LoadOptions& options, const HostFeatures& host) {
  libbpf_set_print(print_libbpf);
  cpus_ = libbpf_num_possible_cpus();
  if (cpus_ <= 0) return system_error("number of CPUs", -cpus_);
  const std::string object_name = fmt::format("olly_{}", name_);
  LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = object_name.c_str());
  object_ = bpf_object__open_mem(object.data(), object.size(), &opts);
  if (object_ == nullptr) return system_error("kernel programs", errno);

  for (const char* per_cpu : {"rings", "counters"}) {
    bpf_map* map = bpf_object__find_map_by_name(object_, per_cpu);
    if (map != nullptr) bpf_map__set_max_entries(map, static_cast<std::uint32_t>(cpus_));
  }
  // Possible CPUs can be many more than there are: those share the lanes of the others.
  lanes_ = static_cast<std::uint32_t>(std::clamp(sysconf(_SC_NPROCESSORS_ONLN), 1l, long{cpus_}));
  lane_bytes_ = lane_size(options.ring_bytes, lanes_);
  while (lane_bytes_ > kSmallestLane && !array_holds(lane_stride())) lane_bytes_ /= 2;
  bpf_map* lanes = bpf_object__find_map_by_name(object_, "lanes");
  if (lanes == nullptr || bpf_map__set_max_entries(lanes, lanes_) != 0 ||
      bpf_map__set_value_size(lanes, static_cast<std::uint32_t>(lane_stride())) != 0) {
    return fail(ErrorCode::internal, "kernel programs without their lanes");
  }
  olly_setup setup{};
  setup.lanes = lanes_;
  setup.lane_mask = static_cast<std::uint32_t>(lane_bytes_ - 1);
  setup.exit_has_group_dead = host.exit_has_group_dead ? 1 : 0;
  setup.preempt_kfuncs = host.preempt_kfuncs ? 1 : 0;
  many_uprobes_ = host.uprobe_multi;
  setup.tls = options.tls ? 1 : 0;
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object_) {
    const std::string_view program_name = bpf_program__name(program);
    if (!program_name.starts_with(kTlsPrograms)) continue;
    bpf_program__set_autoload(program,
                              options.tls && program_name.ends_with(kBare) != host.preempt_kfuncs);
    if (host.uprobe_multi) {
      bpf_program__set_expected_attach_type(program, static_cast<bpf_attach_type>(kUprobeMulti));
    }
  }
  if (getrandom(&setup.seed, sizeof setup.seed, 0) != sizeof setup.seed) setup.seed = 0x9e3779b9;
  bpf_map* constants = bpf_object__find_map_by_name(object_, ".rodata.setup");
  if (constants == nullptr || bpf_map__set_initial_value(constants, &setup, sizeof setup) != 0) {
    return fail(ErrorCode::internal, "kernel programs without their constants");
  }
  if (const int err = bpf_object__load(object_); err != 0) {
    if (err == -EACCES) {  // the verifier's own word; who may not load at all gets EPERM
      return fail(
          ErrorCode::internal,
          fmt::format("the kernel's verifier, or a security module, refused the {} programs",
                      name_),
          "report it with what `olly check` says; hook.ebpf.capture chooses another way");
    }
    return system_error(fmt::format("the kernel refused the {} programs", name_), -err);
  }
  if (auto ok = map_shared(options); !ok) return ok;
  return make_rings();
}

Result<void> LoadedCapture::map_shared(const LoadOptions& options) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const auto map = [&](const char* map_name, std::size_t size) -> void* {
    const int fd = bpf_object__find_map_fd_by_name(object_, map_name);
    size = (size + page - 1) / page * page;
    void* address =
        fd < 0 ? MAP_FAILED : mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED) return nullptr;
    mappings_.emplace_back(address, size);
    return address;
  };
  control_ = static_cast<volatile olly_control*>(map(".data.control", sizeof(olly_control)));
  auto* policies =
      static_cast<olly_policy*>(map("policies", OLLY_POLICY_SLOTS * sizeof(olly_policy)));
  auto* counters = static_cast<olly_cpu*>(map("counters", sizeof(olly_cpu) * cpus_));
  processes_fd_ = bpf_object__find_map_fd_by_name(object_, "processes");
  if (control_ == nullptr || policies == nullptr || counters == nullptr || processes_fd_ < 0) {
    return system_error("mapping what the kernel programs share", errno);
  }
  policies_ = {policies, OLLY_POLICY_SLOTS};
  counters_ = {counters, static_cast<std::size_t>(cpus_)};
  lane_memory_ = static_cast<std::uint8_t*>(map("lanes", lanes_ * lane_stride()));
  if (lane_memory_ == nullptr) return system_error("mapping the lanes", errno);

  control_->generation = 1;
  control_->observe_unknown = options.observe_unknown ? 1 : 0;
  control_->max_copy = options.max_copy;
  control_->unknown_copy =
      options.parsed ? std::min(options.max_copy, OLLY_UNKNOWN_COPY) : options.max_copy;
  control_->unknown_first =
      options.parsed ? std::min(options.max_copy, OLLY_MAX_COPY) : options.max_copy;
  control_->settled = options.all_new ? 1 : 0;
  control_->agent_tgid = static_cast<std::uint32_t>(getpid());
  // In a container getpid() is not what the kernel programs see.
  if (const bpf_program* self = bpf_object__find_program_by_name(object_, "olly_self")) {
    LIBBPF_OPTS(bpf_test_run_opts, run);
    if (bpf_prog_test_run_opts(bpf_program__fd(self), &run) != 0) {
      log::debug("olly_self: {}", std::strerror(errno));
    }
  }
  return {};
}

Result<void> LoadedCapture::make_rings() {
  const int rings_fd = bpf_object__find_map_fd_by_name(object_, "rings");
  const std::uint64_t size = ring_size(lane_bytes_);
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  for (std::uint32_t i = 0; i < lanes_; ++i) {
    UniqueFd fd(bpf_map_create(BPF_MAP_TYPE_RINGBUF, "olly_ring", 0, 0,
                               static_cast<std::uint32_t>(size), nullptr));
    if (!fd) return system_error("creating a ring buffer", errno);
    void* consumer = mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (consumer == MAP_FAILED) return system_error("mapping a ring buffer", errno);
    mappings_.emplace_back(consumer, page);
    void* rest =
        mmap(nullptr, page + size, PROT_READ, MAP_SHARED, fd.get(), static_cast<off_t>(page));
    if (rest == MAP_FAILED) return system_error("mapping a ring buffer", errno);
    mappings_.emplace_back(rest, page + size);
    rings_.add(std::make_unique<Ring>(static_cast<std::uint64_t*>(consumer),
                                      static_cast<std::uint64_t*>(rest),
                                      static_cast<std::uint8_t*>(rest) + page, size));
    ring_fds_.push_back(std::move(fd));
  }
  // CPUs that are not online yet, or whose numbers have holes, share the rings there are.
  for (std::uint32_t cpu = 0; cpu < static_cast<std::uint32_t>(cpus_); ++cpu) {
    const int fd = ring_fds_[cpu % ring_fds_.size()].get();
    if (bpf_map_update_elem(rings_fd, &cpu, &fd, BPF_ANY) != 0) {
      return system_error("installing a ring buffer", errno);
    }
  }
  // Behind the rings: of records of one moment, an OPEN comes before its socket's first IO.
  for (std::uint32_t i = 0; i < lanes_; ++i) {
    rings_.add(std::make_unique<Lane>(
        reinterpret_cast<olly_lane*>(lane_memory_ + i * lane_stride()), lane_bytes_));
  }
  return {};
}

namespace {

// The kernel hands out inode numbers of sockets and pipes from batches, one per CPU at a time
// (fs/inode.c, get_next_ino). What is left of each CPU's batch is used up here, so that from now on
// every socket has a number behind the one that is returned, and none that is there already has.
// 0: not known. Costs at most 1,024 sockets a CPU, opened and closed again: about 2 ms.
std::uint32_t first_new_inode() noexcept {
  constexpr std::uint32_t kBatch = 1024;
  cpu_set_t all;
  if (sched_getaffinity(0, sizeof all, &all) != 0) return 0;
  std::uint32_t first = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &all)) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0) continue;
    std::uint32_t before = 0;
    for (std::uint32_t n = 0; n <= kBatch; ++n) {
      const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
      struct stat status {};
      if (!fd || ::fstat(fd.get(), &status) != 0) break;
      const auto batch = (static_cast<std::uint32_t>(status.st_ino) - 1) / kBatch;
      if (n > 0 && batch != before) {
        if (first == 0) first = batch * kBatch;
        break;
      }
      before = batch;
    }
  }
  sched_setaffinity(0, sizeof all, &all);
  return first;
}

}  // namespace

Result<void> LoadedCapture::attach() {
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object_) {
    const std::string_view program_name = bpf_program__name(program);
    if (program_name == "olly_self" || program_name.starts_with(kTlsPrograms)) continue;
    bpf_link* link = bpf_program__attach(program);
    if (link == nullptr) {
      const int error = errno;
      detach();
      return system_error(fmt::format("attaching {}", program_name), error);
    }
    links_.push_back(link);
  }
  sees_all();
  return {};
}

void LoadedCapture::sees_all() noexcept { control_->young = first_new_inode(); }

bpf_program* LoadedCapture::tls_program(std::string_view name) noexcept {
  for (const std::string_view ending : {std::string_view(), kBare}) {
    const std::string full = fmt::format("{}{}{}", kTlsPrograms, name, ending);
    bpf_program* found = bpf_object__find_program_by_name(object_, full.c_str());
    if (found != nullptr && bpf_program__autoload(found)) return found;
  }
  return nullptr;
}

void LoadedCapture::detach() noexcept {
  for (bpf_link* link : links_) bpf_link__destroy(link);
  links_.clear();
}

}  // namespace olly
