// olly check: what this host offers, which provider and back end would be used, why not the better
// one.
#include <fmt/format.h>

#include "cli/cli.h"
#include "hook/ebpf/features.h"

namespace olly::cli {
namespace {

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) out += c;
  }
  return out + '"';
}

const char* yes_no(bool value) { return value ? "yes" : "no"; }

}  // namespace

int run_check(const Arguments& arguments, const config::Config& config) {
  const HostFeatures host = probe_host();
  const std::string no_sockio = host.why_not_sockio();
  const std::string no_syscall = host.why_not_syscall();
  std::string capture;
  if (config.hook.ebpf_capture != config::CaptureChoice::syscall && no_sockio.empty()) {
    capture = "sockio";
  } else if (config.hook.ebpf_capture != config::CaptureChoice::sockio && no_syscall.empty()) {
    capture = "syscall";
  }
  const std::string provider = capture.empty() ? "stub" : "ebpf";
  if (arguments.json) {
    std::string missing;
    for (const std::string& name : host.missing_capabilities) {
      missing += (missing.empty() ? "" : ",") + quoted(name);
    }
    fmt::print(
        "{{\"kernel\":{},\"btf\":{},\"lockdown\":{},\"missing_capabilities\":[{}],\"provider\":{},"
        "\"capture\":{},\"why_not_sockio\":{},\"why_not_syscall\":{},\"hint\":{}}}\n",
        quoted(host.kernel_release), host.btf, quoted(host.lockdown), missing, quoted(provider),
        quoted(capture), quoted(no_sockio), quoted(no_syscall), quoted(host.hint()));
    return 0;
  }
  std::string missing;
  for (const std::string& name : host.missing_capabilities) missing += " " + name;
  fmt::print("kernel                {}\n", host.kernel_release);
  fmt::print("BTF                   {}\n", yes_no(host.btf));
  fmt::print("socket tracepoints    {}\n", yes_no(host.sock_length));
  fmt::print("system call tracepts  {}\n", yes_no(host.sys_enter_exit));
  fmt::print("ring buffer           {}\n", yes_no(host.ring_buffer));
  fmt::print("lockdown              {}\n", host.lockdown);
  fmt::print("missing capabilities {}\n", missing.empty() ? " none" : missing);
  fmt::print("\nprovider              {}{}\n", provider,
             capture.empty() ? "" : fmt::format(" (capture: {})", capture));
  if (!no_sockio.empty()) fmt::print("not sockio            {}\n", no_sockio);
  if (!no_syscall.empty()) fmt::print("not syscall           {}\n", no_syscall);
  if (capture.empty()) {
    fmt::print(
        "without eBPF          libolly.so, the way without privileges, comes with a later "
        "version\n");
  }
  if (!host.hint().empty()) fmt::print("what to do            {}\n", host.hint());
  return 0;
}

}  // namespace olly::cli
