#include "metrics/self.h"

#include <sys/resource.h>

#include <fstream>
#include <string>

#include "base/time.h"

namespace olly {

void register_self_metrics(MetricRegistry& registry) {
  Gauge& memory = registry.gauge("olly_process_resident_memory_bytes",
                                 "Resident memory of the agent, ring buffers included", {}, "By");
  Counter& cpu =
      registry.counter("olly_process_cpu_seconds_total",
                       "CPU time that the agent has used, user and system", {}, "s", 1e6);
  Gauge& threads = registry.gauge("olly_process_threads", "Threads of the agent");
  Gauge& uptime = registry.gauge("olly_uptime_seconds", "Seconds since the agent started", {}, "s");
  const Nanos started = monotonic_now();
  registry.before_visit([&memory, &cpu, &threads, &uptime, started] {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("VmRSS:")) memory.set(std::stoll(line.substr(6)) * 1024);
      if (line.starts_with("Threads:")) threads.set(std::stoll(line.substr(8)));
    }
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const auto micros = [](const timeval& t) {
      return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000 +
             static_cast<std::uint64_t>(t.tv_usec);
    };
    cpu.set(micros(usage.ru_utime) + micros(usage.ru_stime));
    uptime.set(static_cast<std::int64_t>((monotonic_now() - started) / kSecond));
  });
}

}  // namespace olly
