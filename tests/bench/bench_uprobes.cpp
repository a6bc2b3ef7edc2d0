// What probes in a TLS library cost by themselves: attaches an empty program and waits until stdin
// ends.
//
//   bench_uprobes entry LIBRARY    SSL_read and SSL_write the usual way: entry and uretprobe
//   bench_uprobes sites LIBRARY    the sites that the agent takes
#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "base/fd.h"
#include "hook/ebpf/tls/sites.h"

namespace {

using olly::UniqueFd;

UniqueFd empty_program() {
  const bpf_insn code[] = {{BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0},
                           {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
  return UniqueFd(bpf_prog_load(BPF_PROG_TYPE_KPROBE, "empty", "GPL", code, 2, nullptr));
}

UniqueFd probe(const std::string& path, std::uint64_t offset, bool at_return, int program) {
  std::uint32_t type = 0;
  std::ifstream("/sys/bus/event_source/devices/uprobe/type") >> type;
  perf_event_attr attr{};
  attr.size = sizeof attr;
  attr.type = type;
  attr.config = at_return ? 1 : 0;
  attr.uprobe_path = reinterpret_cast<std::uint64_t>(path.c_str());
  attr.probe_offset = offset;
  UniqueFd fd(
      static_cast<int>(syscall(SYS_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC)));
  if (fd && ioctl(fd.get(), PERF_EVENT_IOC_SET_BPF, program) != 0) return {};
  if (fd) ioctl(fd.get(), PERF_EVENT_IOC_ENABLE, 0);
  return fd;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::string path = argv[2];
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const auto elf = olly::tls::ElfFile::read(file.get());
  const UniqueFd program = empty_program();
  if (!elf || !program) {
    std::fprintf(stderr, "bench_uprobes: %s\n", elf ? "no program" : elf.error().message.c_str());
    return 1;
  }
  std::vector<UniqueFd> probes;
  if (std::string(argv[1]) == "sites") {
    for (const olly::tls::Site& site : olly::tls::find_sites(*elf, false).all()) {
      probes.push_back(probe(path, site.offset, false, program.get()));
    }
  } else {
    for (const char* name : {"SSL_read", "SSL_write"}) {
      for (const bool at_return : {false, true}) {
        probes.push_back(
            probe(path, elf->offset_of(elf->function(name)), at_return, program.get()));
      }
    }
  }
  for (const UniqueFd& fd : probes) {
    if (!fd) {
      std::perror("bench_uprobes: probe");
      return 1;
    }
  }
  std::puts("ready");
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
  return 0;
}
