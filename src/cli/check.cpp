// olly check: what this host offers, which provider and back end would be used, why not the better
// one. Exit status 1 where traffic would not be seen.
#include <fmt/format.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/preloading.h"
#include "hook/ebpf/features.h"
#include "hook/ebpf/tls/survey.h"
#include "hook/socket/listener.h"

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
  fmt::print("syscall tracepoint    {}\n", yes_no(host.sys_exit));
  fmt::print("ring buffer           {}\n", yes_no(host.ring_buffer));
  fmt::print("lockdown              {}\n", host.lockdown);
  fmt::print("missing capabilities {}\n", missing.empty() ? " none" : missing);
  fmt::print("reads processes       {}\n", read_processes(host));
}

// What would be used, and why not the better one.
struct Choice {
  std::string provider;   // ebpf, socket, stub; none: what was asked for by name cannot be had
  std::string capture;    // ebpf's back end
  std::string no_socket;  // why libolly.so is of no use; empty = it is
  std::string library, socket;
};

Choice choose(const HostFeatures& host, const config::Hook& hook) {
  using config::ProviderChoice;
  Choice c;
  const bool automatic = hook.provider == ProviderChoice::automatic;
  if (hook.ebpf_capture != config::CaptureChoice::syscall && host.why_not_sockio().empty()) {
    c.capture = "sockio";
  } else if (hook.ebpf_capture != config::CaptureChoice::sockio && host.why_not_syscall().empty()) {
    c.capture = "syscall";
  }
  c.library = find_library();
  c.socket = hook.socket_path.empty() ? preload::default_socket_path() : hook.socket_path;
  const std::string folder = c.socket.substr(0, c.socket.rfind('/'));
  const std::string above = folder.substr(0, folder.rfind('/'));
  const bool writable =
      ::access(folder.c_str(), W_OK | X_OK) == 0 ||
      (::access(folder.c_str(), F_OK) != 0 && ::access(above.c_str(), W_OK | X_OK) == 0);
  if (!writable) c.no_socket = fmt::format("{} cannot be made here", c.socket);
  if (c.library.empty()) c.no_socket = "libolly.so is not beside olly, nor in ../lib";
  if (hook.provider == ProviderChoice::stub) {
    c.provider = "stub";
  } else if ((automatic || hook.provider == ProviderChoice::ebpf) && !c.capture.empty()) {
    c.provider = "ebpf";
  } else if (hook.provider == ProviderChoice::ebpf) {
    c.provider = "none";
  } else if (c.no_socket.empty()) {
    c.provider = "socket";
  } else {
    c.provider = automatic ? "stub" : "none";
  }
  if (c.provider != "ebpf") c.capture.clear();
  return c;
}

std::string tls_json(const std::vector<tls::Surveyed>& found) {
  std::string out;
  for (const tls::Surveyed& f : found) {
    const std::string why = f.library.why_not();
    std::string sites;
    for (const tls::FunctionSites& function : f.library.functions) {
      for (const tls::Site& site : function.sites) {
        if (!why.empty()) continue;
        sites += fmt::format("{}{{\"function\":{},\"offset\":{},\"result\":{},\"expensive\":{}}}",
                             sites.empty() ? "" : ",", quoted(function.name), site.offset,
                             site.result, site.dear);
      }
    }
    out += fmt::format(
        "{}{{\"path\":{},\"library\":{},\"build_id\":{},\"sites\":[{}],\"why_not\":{}}}",
        out.empty() ? "" : ",", quoted(f.path), quoted(f.library.library),
        quoted(f.library.build_id), sites, quoted(why));
  }
  return out;
}

// The TLS libraries that run here, and where they would be probed.
void print_tls(const std::vector<tls::Surveyed>& found) {
  if (found.empty())
    fmt::print("TLS                   no program here uses a library of TLS now\n");
  for (const tls::Surveyed& f : found) {
    fmt::print("TLS                   {} ({}, build id {})\n", f.path, f.library.library,
               f.library.build_id);
    if (const std::string why = f.library.why_not(); !why.empty()) {
      fmt::print("                      not covered: {}\n", why);
      continue;
    }
    for (const tls::FunctionSites& function : f.library.functions) {
      std::string call, result;
      for (const tls::Site& site : function.sites) {
        (site.result ? result : call) +=
            fmt::format(" {:#x}{}", site.offset, site.dear ? " (expensive)" : "");
      }
      fmt::print("                      {}:{}{}{}{}{}\n", function.name, call.empty() ? "" : " at",
                 call, call.empty() || result.empty() ? "" : ",",
                 result.empty() ? "" : " result at", result);
    }
  }
}

void print_json(const HostFeatures& host, const Choice& c, const std::vector<tls::Surveyed>& tls) {
  std::string missing;
  for (const std::string& name : host.missing_capabilities) {
    missing += (missing.empty() ? "" : ",") + quoted(name);
  }
  fmt::print(
      "{{\"kernel\":{},\"btf\":{},\"lockdown\":{},\"missing_capabilities\":[{}],"
      "\"reads_processes\":{},\"reads_files\":{},\"provider\":{},\"capture\":{},"
      "\"why_not_sockio\":{},"
      "\"why_not_syscall\":{},\"why_not_socket\":{},\"library\":{},\"socket_path\":{},"
      "\"tls\":[{}],\"hint\":{}}}\n",
      quoted(host.kernel_release), host.btf, quoted(host.lockdown), missing, host.reads_processes,
      host.reads_files, quoted(c.provider), quoted(c.capture), quoted(host.why_not_sockio()),
      quoted(host.why_not_syscall()), quoted(c.no_socket), quoted(c.library), quoted(c.socket),
      tls_json(tls), quoted(host.hint()));
}

void print_choice(const HostFeatures& host, const Choice& c, bool ebpf_wanted) {
  fmt::print("\nprovider              {}{}\n", c.provider,
             c.capture.empty() ? "" : fmt::format(", capture {}", c.capture));
  const std::string no_sockio = host.why_not_sockio();
  if (ebpf_wanted && c.capture != "sockio" && !no_sockio.empty()) {
    fmt::print("not sockio            {}\n", no_sockio);
  }
  const std::string no_syscall = host.why_not_syscall();
  if (ebpf_wanted && c.capture.empty() && !no_syscall.empty()) {
    fmt::print("not syscall           {}\n", no_syscall);
  }
  if (c.provider == "socket") {
    fmt::print(
        "                      olly run gives programs libolly.so; for others it is\n"
        "                      LD_PRELOAD={} OLLY_HOOK_SOCKET_PATH={}\n"
        "                      not seen: statically linked programs, Go, setuid\n",
        c.library, c.socket);
  } else if (c.provider != "ebpf") {
    fmt::print("not socket            {}\n", c.no_socket.empty() ? "not asked for" : c.no_socket);
    fmt::print(
        "                      olly {}; olly run {}\n",
        c.provider == "none" ? "does not start" : "starts, but sees no traffic",
        c.library.empty() || c.provider == "none" ? "refuses" : "gives its program libolly.so");
  }
  if (ebpf_wanted && !host.hint().empty()) fmt::print("what to do            {}\n", host.hint());
}

}  // namespace

int run_check(const Arguments& arguments, const config::Config& config) {
  using config::ProviderChoice;
  const HostFeatures host = probe_host();
  const Choice choice = choose(host, config.hook);
  const bool stub_wanted = config.hook.provider == ProviderChoice::stub;
  const bool blind = !stub_wanted && (choice.provider == "stub" || choice.provider == "none");
  std::vector<tls::Surveyed> tls;
  if (!choice.capture.empty() && config.hook.ebpf_tls)
    tls = tls::survey(config.hook.ebpf_tls_expensive);
  if (arguments.json) {
    print_json(host, choice, tls);
    return blind ? 1 : 0;
  }
  print_host(host);
  if (stub_wanted) {
    fmt::print(
        "\nprovider              stub\n"
        "                      hook.provider is stub: nothing is observed\n");
    return 0;
  }
  print_choice(host, choice, config.hook.provider != ProviderChoice::socket);
  if (!choice.capture.empty() && config.hook.ebpf_tls) print_tls(tls);
  return blind ? 1 : 0;
}

}  // namespace olly::cli
