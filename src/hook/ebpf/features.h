// What this host offers to the eBPF provider, and which capture back end fits. Used by the provider
// itself and by `olly check`. Changes nothing on the host.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"

namespace olly {

struct HostFeatures {
  std::string kernel_release;
  bool btf = false;  // /sys/kernel/btf/vmlinux can be read
  // Tracepoints, as far as the kernel's BTF names them.
  bool sock_length = false;                // sock_send_length and sock_recv_length (6.3 on)
  bool sock_state = false;                 // inet_sock_set_state
  bool sys_exit = false;                   // raw system call tracepoint
  bool sched = false;                      // sched_process_fork, _exec, _exit
  bool ring_buffer = false;                // BPF_MAP_TYPE_RINGBUF (5.8 on)
  bool task_registers = false;             // bpf_task_pt_regs (5.15 on)
  bool socket_storage_in_tracing = false;  // bpf_sk_storage_get in tracing programs (5.11 on)
  bool uprobe_multi = false;               // many uprobes in one link (6.6 on)
  bool preempt_kfuncs = false;             // bpf_preempt_disable (6.11 on)
  bool exit_has_group_dead = false;        // argument list of sched_process_exit (6.16 on)
  std::vector<std::string> missing_capabilities;  // by name; empty = enough
  // Of other users' processes. CAP_SYS_PTRACE: /proc/PID/exe and environ are told at all.
  // CAP_DAC_READ_SEARCH, besides: environ is a file of mode 0400, and executables may be as
  // private.
  bool reads_processes = false;
  bool reads_files = false;
  std::string lockdown;  // none, integrity, confidentiality, unknown
  std::string bpf_jit;   // net.core.bpf_jit_enable; empty = unknown

  // Empty = it would work as far as can be told without trying; else why not.
  std::string why_not_sockio() const;
  std::string why_not_syscall() const;
  // What the user can do about the first obstacle; empty when there is none.
  std::string hint() const;
};

HostFeatures probe_host();

std::string_view capture_name(config::CaptureChoice choice) noexcept;

}  // namespace olly
