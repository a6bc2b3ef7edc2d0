// olly check: what this host offers, which provider and back end would be used, why not the better
// one. Exit status 1 where traffic would not be seen.
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

// What is lost where a capability lacks that nothing depends on but these.
std::string_view read_processes(const HostFeatures& host) {
  if (!host.reads_processes) {
    return "own user's only, without CAP_SYS_PTRACE: of others neither OTEL_SERVICE_NAME nor the\n"
           "                      executable is known (hook.include and exclude by exe, links in "
           "Go programs)";
  }
  if (!host.reads_files) {
    return "without CAP_DAC_READ_SEARCH: no OTEL_SERVICE_NAME of other users' processes, and no\n"
           "                      links in Go programs that only their owner may read";
  }
  return "yes";
}

void print_host(const HostFeatures& host) {
  std::string missing;
  for (const std::string& name : host.missing_capabilities) missing += " " + name;
  fmt::print("kernel                {}\n", host.kernel_release);
  fmt::print("BTF                   {}\n", yes_no(host.btf));
  fmt::print("socket tracepoints    {}\n", yes_no(host.sock_length));
  fmt::print("syscall tracepoints   {}\n", yes_no(host.sys_enter_exit));
  fmt::print("ring buffer           {}\n", yes_no(host.ring_buffer));
  fmt::print("lockdown              {}\n", host.lockdown);
  fmt::print("missing capabilities {}\n", missing.empty() ? " none" : missing);
  fmt::print("reads processes       {}\n", read_processes(host));
}

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
  const bool wanted = config.hook.provider != config::ProviderChoice::stub;
  const int status = wanted && capture.empty() ? 1 : 0;
  std::string provider = capture.empty() ? "stub" : "ebpf";
  if (!wanted) {
    provider = "stub";
    capture.clear();
  } else if (config.hook.provider == config::ProviderChoice::ebpf && capture.empty()) {
    provider = "none";  // asked for by name, it is not replaced
  }
  if (arguments.json) {
    std::string missing;
    for (const std::string& name : host.missing_capabilities) {
      missing += (missing.empty() ? "" : ",") + quoted(name);
    }
    fmt::print(
        "{{\"kernel\":{},\"btf\":{},\"lockdown\":{},\"missing_capabilities\":[{}],"
        "\"reads_processes\":{},\"reads_files\":{},\"provider\":{},\"capture\":{},\"why_not_"
        "sockio\":{},"
        "\"why_not_syscall\":{},\"hint\":{}}}\n",
        quoted(host.kernel_release), host.btf, quoted(host.lockdown), missing, host.reads_processes,
        host.reads_files, quoted(provider), quoted(capture), quoted(no_sockio), quoted(no_syscall),
        quoted(host.hint()));
    return status;
  }
  print_host(host);
  fmt::print("\nprovider              {}{}\n", provider,
             capture.empty() ? "" : fmt::format(", capture {}", capture));
  if (!wanted) {
    fmt::print("                      hook.provider is stub: nothing is observed\n");
    return 0;
  }
  if (capture != "sockio" && !no_sockio.empty())
    fmt::print("not sockio            {}\n", no_sockio);
  if (capture.empty() && !no_syscall.empty()) fmt::print("not syscall           {}\n", no_syscall);
  if (capture.empty()) {
    fmt::print(
        "                      olly {}; olly run refuses\n"
        "without privileges    libolly.so, for programs that olly run starts, is not supported "
        "yet\n",
        provider == "none" ? "does not start" : "starts, but sees no traffic");
  }
  if (!host.hint().empty()) fmt::print("what to do            {}\n", host.hint());
  return status;
}

}  // namespace olly::cli
