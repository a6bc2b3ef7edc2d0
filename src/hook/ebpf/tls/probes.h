// The probes in one file. Gone when it is destroyed.
#pragma once

#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "hook/ebpf/tls/sites.h"

struct bpf_link;
struct bpf_program;

namespace olly::tls {

// The programs of bpf/tls/probes.h.
struct ProbePrograms {
  bpf_program* call = nullptr;
  bpf_program* result = nullptr;
  bpf_program* go = nullptr;  // of bpf/tls/go.h
  bpf_program* of(const Site& site) const noexcept {
    if (site.go()) return go;
    return site.result ? result : call;
  }
  // They were loaded to be attached many at a time (6.6 on): to take off each probe of its own
  // costs a grace period of the kernel, some tens of milliseconds.
  bool many = false;
};

class Probes {
 public:
  // All or none. The file need not stay open.
  static Result<Probes> attach(const ProbePrograms& programs, int fd,
                               const std::vector<Site>& sites);
  Probes() = default;
  Probes(Probes&&) noexcept = default;
  Probes& operator=(Probes&&) = delete;
  ~Probes();

 private:
  Result<void> attach_many(bpf_program* program, int fd, const std::vector<Site>& sites);
  Result<void> attach_each(bpf_program* program, int fd, const std::vector<Site>& sites);
  std::vector<UniqueFd> many_;
  std::vector<bpf_link*> links_;
};

}  // namespace olly::tls
