#include "hook/ebpf/tls/map_watch.h"

#include <linux/perf_event.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace olly::tls {
namespace {

constexpr std::size_t kPages = 8;  // of records, a power of two

std::size_t page_size() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }
std::size_t memory_size() { return (kPages + 1) * page_size(); }

int open_cpu(int cpu) {
  perf_event_attr attr{};
  attr.size = sizeof attr;
  attr.type = PERF_TYPE_SOFTWARE;
  attr.config = PERF_COUNT_SW_DUMMY;
  attr.mmap = 1;
  attr.mmap2 = 1;
  attr.watermark = 1;
  attr.wakeup_watermark = 1;
  return static_cast<int>(syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC));
}

// PERF_RECORD_MMAP2 as linux/perf_event.h describes it, up to the file's name.
struct Mmap2 {
  perf_event_header header;
  std::uint32_t pid, tid;
  std::uint64_t address, length, offset;
  std::uint32_t major, minor;
  std::uint64_t inode, inode_generation;
  std::uint32_t protection, flags;
};

}  // namespace

MapWatch::~MapWatch() { stop(); }

void MapWatch::stop() noexcept {
  for (Cpu& cpu : cpus_) {
    if (cpu.memory != nullptr) munmap(cpu.memory, memory_size());
  }
  cpus_.clear();
}

Result<void> MapWatch::start() {
  const int count = static_cast<int>(sysconf(_SC_NPROCESSORS_CONF));
  for (int i = 0; i < count; ++i) {
    Cpu cpu;
    cpu.fd.reset(open_cpu(i));
    if (!cpu.fd) {
      if (errno == ENODEV) continue;  // not online
      const int error = errno;
      stop();
      return fail(error == EACCES || error == EPERM ? ErrorCode::privilege : ErrorCode::io,
                  std::string("perf_event_open: ") + std::strerror(error));
    }
    cpu.memory = mmap(nullptr, memory_size(), PROT_READ | PROT_WRITE, MAP_SHARED, cpu.fd.get(), 0);
    if (cpu.memory == MAP_FAILED) {
      cpu.memory = nullptr;
      const int error = errno;
      stop();
      return fail(ErrorCode::io, std::string("mapping perf records: ") + std::strerror(error));
    }
    cpus_.push_back(std::move(cpu));
  }
  return {};
}

std::vector<int> MapWatch::fds() const {
  std::vector<int> out;
  for (const Cpu& cpu : cpus_) out.push_back(cpu.fd.get());
  return out;
}

bool MapWatch::drain(const std::function<void(const Mapped&)>& on_mapped) {
  bool lost = false;
  alignas(8) std::uint8_t record[sizeof(Mmap2) + 4096 + 64];
  for (Cpu& cpu : cpus_) {
    auto* page = static_cast<perf_event_mmap_page*>(cpu.memory);
    const auto* data = static_cast<const std::uint8_t*>(cpu.memory) + page_size();
    const std::size_t size = kPages * page_size();
    const std::uint64_t head = __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE);
    std::uint64_t tail = page->data_tail;
    const auto copy = [&](void* to, std::size_t n) {
      for (std::size_t i = 0; i < n; ++i) {
        static_cast<std::uint8_t*>(to)[i] = data[(tail + i) & (size - 1)];
      }
    };
    while (tail + sizeof(perf_event_header) <= head) {
      perf_event_header header;
      copy(&header, sizeof header);
      if (header.size < sizeof header) break;
      lost |= header.type == PERF_RECORD_LOST;
      if (header.type == PERF_RECORD_MMAP2 && header.size > sizeof(Mmap2)) {
        const std::size_t n = std::min<std::size_t>(header.size, sizeof record);
        copy(record, n);
        Mmap2 m;
        std::memcpy(&m, record, sizeof m);
        const char* path = reinterpret_cast<const char*>(record) + sizeof m;
        on_mapped({m.pid, m.address, m.length, m.inode,
                   std::string_view(path, strnlen(path, n - sizeof m))});
      }
      tail += header.size;
    }
    __atomic_store_n(&page->data_tail, head, __ATOMIC_RELEASE);
  }
  return lost;
}

}  // namespace olly::tls
