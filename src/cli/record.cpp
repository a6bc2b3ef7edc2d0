// olly record: what the kernel tells, written as a replay file.
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>

#include "cli/cli.h"
#include "config/loader.h"
#include "discovery/process_table.h"
#include "hook/ebpf/ebpf_provider.h"
#include "hook/replay/writer.h"

namespace olly::cli {
namespace {

std::atomic<bool> interrupted{false};
void interrupt(int) { interrupted.store(true); }

}  // namespace

int run_record(const Arguments& arguments, const config::Config& config) {
  const auto duration = config::parse_duration(arguments.duration);
  if (!duration) {
    return complain({ErrorCode::usage, "--duration: " + duration.error().message, "such as 30s"});
  }
  if (arguments.pid != 0 && ::kill(static_cast<pid_t>(arguments.pid), 0) != 0 && errno == ESRCH) {
    return complain({ErrorCode::io, fmt::format("there is no process {}", arguments.pid), {}});
  }
  MetricRegistry metrics;
  EbpfOptions options = ebpf_options(config);
  options.parsed = false;
  options.observe_unknown = arguments.pid == 0;
  options.registry = &metrics;
  EbpfProvider provider(options);
  discovery::ProcessTableOptions processes;
  processes.include = config.hook.include;
  processes.exclude = config.hook.exclude;
  if (arguments.pid != 0) processes.roots = {arguments.pid};
  discovery::ProcessTable table(processes, [&provider](const Process& p) {
    provider.set_process(p.pid, {p.observed, p.goid_offset, false});
  });
  ::signal(SIGINT, interrupt);
  ::signal(SIGTERM, interrupt);
  if (auto done = provider.start(); !done) return complain(done.error());
  if (arguments.pid != 0) provider.set_process(arguments.pid, {});
  ::umask(0077);  // captured bytes: for the user alone
  auto writer = replay::Writer::create(arguments.output, table, arguments.pid);
  if (!writer) return complain(writer.error());
  const Nanos end = monotonic_now() + static_cast<Nanos>(duration->count()) * kMillisecond;
  while (!interrupted.load() && monotonic_now() < end &&
         provider.poll(**writer, 200 * kMillisecond)) {
  }
  provider.stop();
  provider.poll(**writer, 0);
  if (auto done = (*writer)->finish(); !done) return complain(done.error());
  std::uint64_t lost = 0;
  metrics.visit([&lost](const MetricRegistry::Sample& s) {
    if (s.name == "olly_drops_total") lost += static_cast<std::uint64_t>(s.value);
  });
  fmt::print(stderr, "olly: {} events written to {}, {} lost\n", (*writer)->events(),
             arguments.output, lost);
  return 0;
}

}  // namespace olly::cli
