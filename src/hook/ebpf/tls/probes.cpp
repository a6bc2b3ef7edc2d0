#include "hook/ebpf/tls/probes.h"

#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <iterator>

namespace olly::tls {
namespace {

// BPF_LINK_CREATE with BPF_TRACE_UPROBE_MULTI, which older headers do not have.
constexpr std::uint32_t kUprobeMulti = 48;
struct LinkUprobeMulti {
  std::uint32_t program, target, attach_type, flags;
  std::uint64_t path, offsets, reference_counters, cookies;
  std::uint32_t count, multi_flags, pid, pad;
};
static_assert(sizeof(LinkUprobeMulti) == 64);

std::string path_of(int fd) { return fmt::format("/proc/self/fd/{}", fd); }

}  // namespace

Result<Probes> Probes::attach(const ProbePrograms& programs, int fd,
                              const std::vector<Site>& sites) {
  Probes probes;
  // The results' sites first: a call that is found open has its end covered.
  for (bpf_program* program : {programs.result, programs.call, programs.go}) {
    std::vector<Site> own;
    std::copy_if(sites.begin(), sites.end(), std::back_inserter(own),
                 [&](const Site& site) { return programs.of(site) == program; });
    if (own.empty()) continue;
    auto done =
        programs.many ? probes.attach_many(program, fd, own) : probes.attach_each(program, fd, own);
    if (!done) return std::unexpected(done.error());
  }
  return probes;
}

Probes::~Probes() {
  many_.clear();
  for (bpf_link* link : links_) bpf_link__destroy(link);
}

Result<void> Probes::attach_many(bpf_program* program, int fd, const std::vector<Site>& sites) {
  std::vector<std::uint64_t> offsets, cookies;
  for (const Site& site : sites) {
    offsets.push_back(site.offset);
    cookies.push_back(site.cookie());
  }
  const std::string path = path_of(fd);
  LinkUprobeMulti attr{};
  attr.program = static_cast<std::uint32_t>(bpf_program__fd(program));
  attr.attach_type = kUprobeMulti;
  attr.path = reinterpret_cast<std::uint64_t>(path.c_str());
  attr.offsets = reinterpret_cast<std::uint64_t>(offsets.data());
  attr.cookies = reinterpret_cast<std::uint64_t>(cookies.data());
  attr.count = static_cast<std::uint32_t>(offsets.size());
  UniqueFd link(static_cast<int>(syscall(SYS_bpf, BPF_LINK_CREATE, &attr, sizeof attr)));
  if (!link) return fail(ErrorCode::io, fmt::format("probes: {}", std::strerror(errno)));
  many_.push_back(std::move(link));
  return {};
}

Result<void> Probes::attach_each(bpf_program* program, int fd, const std::vector<Site>& sites) {
  const std::string path = path_of(fd);
  for (const Site& site : sites) {
    LIBBPF_OPTS(bpf_uprobe_opts, opts, .bpf_cookie = site.cookie());
    bpf_link* link = bpf_program__attach_uprobe_opts(program, -1, path.c_str(), site.offset, &opts);
    if (link == nullptr) {
      return fail(ErrorCode::io,
                  fmt::format("probe at {:#x}: {}", site.offset, std::strerror(errno)));
    }
    links_.push_back(link);
  }
  return {};
}

}  // namespace olly::tls
