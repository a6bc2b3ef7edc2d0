#include "hook/ebpf/features.h"

#include <bpf/btf.h>
#include <fmt/format.h>
#include <malloc.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <sstream>

namespace olly {
namespace {

std::string first_line(const char* path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

// "none [integrity] confidentiality" -> "integrity".
std::string lockdown_state() {
  const std::string line = first_line("/sys/kernel/security/lockdown");
  const auto open = line.find('[');
  const auto close = line.find(']');
  if (open == std::string::npos || close == std::string::npos || close < open) return "unknown";
  return line.substr(open + 1, close - open - 1);
}

void read_capabilities(HostFeatures& host) {
  std::uint64_t effective = 0;
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("CapEff:", 0) != 0) continue;
    std::istringstream text(line.substr(7));
    text >> std::hex >> effective;
  }
  const auto has = [&](int bit) { return (effective >> bit & 1) != 0; };
  constexpr int kDacOverride = 1;
  constexpr int kDacReadSearch = 2;
  constexpr int kSysPtrace = 19;
  constexpr int kSysAdmin = 21;
  constexpr int kPerfmon = 38;
  constexpr int kBpf = 39;
  host.reads_processes = has(kSysPtrace);
  host.reads_files = has(kDacReadSearch) || has(kDacOverride);
  if (has(kSysAdmin)) return;  // stands for both
  if (!has(kBpf)) host.missing_capabilities.emplace_back("CAP_BPF");
  if (!has(kPerfmon)) host.missing_capabilities.emplace_back("CAP_PERFMON");
}

// Number of arguments of a tracepoint, 0 = there is none.
int tracepoint_arguments(const btf* types, const char* name) {
  const std::string full = std::string("btf_trace_") + name;
  const int id = btf__find_by_name_kind(types, full.c_str(), BTF_KIND_TYPEDEF);
  if (id <= 0) return 0;
  const btf_type* type = btf__type_by_id(types, btf__type_by_id(types, id)->type);
  if (type == nullptr || btf_kind(type) != BTF_KIND_PTR) return 0;
  type = btf__type_by_id(types, type->type);
  if (type == nullptr || btf_kind(type) != BTF_KIND_FUNC_PROTO) return 0;
  return btf_vlen(type) - 1;  // the first one is the probe's own data
}

bool enum_has(const btf* types, const char* enum_name, const char* value) {
  const int id = btf__find_by_name_kind(types, enum_name, BTF_KIND_ENUM);
  if (id <= 0) return false;
  const btf_type* type = btf__type_by_id(types, id);
  const struct btf_enum* values = btf_enum(type);
  for (int i = 0; i < btf_vlen(type); ++i) {
    const char* name = btf__name_by_offset(types, values[i].name_off);
    if (name != nullptr && std::string_view(name) == value) return true;
  }
  return false;
}

std::string why_not_any(const HostFeatures& host) {
  if (!host.missing_capabilities.empty()) {
    std::string names;
    for (const std::string& name : host.missing_capabilities) {
      names += (names.empty() ? "" : " and ") + name;
    }
    return "missing " + names;
  }
  if (!host.btf) return "the kernel has no BTF (/sys/kernel/btf/vmlinux)";
  if (host.lockdown == "confidentiality") return "kernel lockdown is in confidentiality mode";
  if (!host.ring_buffer) return "the kernel has no BPF ring buffer (5.8 or later is needed)";
  if (!host.sched) return "the kernel's BTF does not name the sched_process tracepoints";
  return {};
}

}  // namespace

std::string HostFeatures::why_not_sockio() const {
  if (std::string why = why_not_any(*this); !why.empty()) return why;
  if (!sock_length) {
    return fmt::format(
        "kernel {} has no tracepoints sock_send_length and sock_recv_length (6.3 or later is "
        "needed)",
        kernel_release);
  }
  if (!sock_state) return "the kernel's BTF does not name inet_sock_set_state";
  return {};
}

std::string HostFeatures::why_not_syscall() const {
  if (std::string why = why_not_any(*this); !why.empty()) return why;
  if (!sys_exit) return "the kernel's BTF does not name sys_exit";
  if (!task_registers) {
    return fmt::format(
        "kernel {} does not show programs the registers of a task (5.15 or later is needed)",
        kernel_release);
  }
  return {};
}

std::string HostFeatures::hint() const {
  if (!missing_capabilities.empty())
    return "run as root, or give the program CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE and "
           "CAP_DAC_READ_SEARCH";
  if (!btf) return "use a kernel built with CONFIG_DEBUG_INFO_BTF=y";
  if (lockdown == "confidentiality") return "boot with lockdown=integrity or none";
  if (!ring_buffer || !task_registers) return "use Linux 5.15 or later";
  return {};
}

HostFeatures probe_host() {
  HostFeatures host;
  utsname name{};
  if (uname(&name) == 0) host.kernel_release = name.release;
  host.lockdown = lockdown_state();
  host.bpf_jit = first_line("/proc/sys/net/core/bpf_jit_enable");
  read_capabilities(host);
  if (access("/sys/kernel/btf/vmlinux", R_OK) != 0) return host;
  btf* types = btf__load_vmlinux_btf();
  if (types == nullptr) return host;
  host.btf = true;
  host.sock_length = tracepoint_arguments(types, "sock_send_length") == 3 &&
                     tracepoint_arguments(types, "sock_recv_length") == 3;
  host.sock_state = tracepoint_arguments(types, "inet_sock_set_state") == 3;
  host.sys_exit = tracepoint_arguments(types, "sys_exit") == 2;
  host.sched = tracepoint_arguments(types, "sched_process_fork") > 0 &&
               tracepoint_arguments(types, "sched_process_exec") > 0 &&
               tracepoint_arguments(types, "sched_process_exit") > 0;
  host.exit_has_group_dead = tracepoint_arguments(types, "sched_process_exit") >= 2;
  host.ring_buffer = enum_has(types, "bpf_map_type", "BPF_MAP_TYPE_RINGBUF");
  host.task_registers = enum_has(types, "bpf_func_id", "BPF_FUNC_task_pt_regs");
  host.socket_storage_in_tracing =
      btf__find_by_name_kind(types, "bpf_sk_storage_get_tracing", BTF_KIND_FUNC) > 0;
  host.uprobe_multi = enum_has(types, "bpf_attach_type", "BPF_TRACE_UPROBE_MULTI");
  host.preempt_kfuncs = btf__find_by_name_kind(types, "bpf_preempt_disable", BTF_KIND_FUNC) > 0 &&
                        btf__find_by_name_kind(types, "bpf_preempt_enable", BTF_KIND_FUNC) > 0;
  btf__free(types);
  malloc_trim(0);  // the kernel's types took some megabytes
  return host;
}

std::string_view capture_name(config::CaptureChoice choice) noexcept {
  switch (choice) {
    case config::CaptureChoice::sockio:
      return "sockio";
    case config::CaptureChoice::syscall:
      return "syscall";
    case config::CaptureChoice::automatic:
      break;
  }
  return "auto";
}

}  // namespace olly
