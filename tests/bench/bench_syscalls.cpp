// What capture costs a call: ns per call with and without the provider attached, in turn within one
// run, smallest of the rounds on each side.
//   bench_syscalls [--capture sockio|syscall] [--rounds N]
// "observed" runs in a child that is observed, "unobserved" in one that is not; send and receive
// are 200 bytes over a loopback TCP connection within the child; both halves of the pair are
// counted.
#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <string_view>
#include <thread>

#include "base/time.h"
#include "hook/ebpf/ebpf_provider.h"

namespace {

constexpr int kCalls = 20000;
constexpr int kKinds = 4;
constexpr const char* kNames[kKinds] = {"send 200 B", "recv 200 B", "pwrite 200 B", "getppid"};
using Times = std::array<double, kKinds>;

void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof set, &set);
}

struct Pair {
  int client = -1;
  int server = -1;
};

Pair make_pair() {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  Pair pair;
  pair.client = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      listen(listener, 1) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      connect(pair.client, reinterpret_cast<sockaddr*>(&address), size) != 0) {
    std::perror("loopback");
    std::exit(1);
  }
  pair.server = accept(listener, nullptr, nullptr);
  const int on = 1;
  setsockopt(pair.client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  close(listener);
  return pair;
}

Times measure(const Pair& pair, int file) {
  char buffer[200] = {'x'};
  Times times{};
  olly::Nanos send_ns = 0;
  olly::Nanos recv_ns = 0;
  // In bursts of ten, so that the clock's own cost does not count.
  for (int i = 0; i < kCalls / 10; ++i) {
    const olly::Nanos a = olly::monotonic_now();
    for (int k = 0; k < 10; ++k) {
      if (write(pair.client, buffer, sizeof buffer) != sizeof buffer) std::abort();
    }
    const olly::Nanos b = olly::monotonic_now();
    for (int k = 0; k < 10; ++k) {
      if (recv(pair.server, buffer, sizeof buffer, MSG_WAITALL) != sizeof buffer) std::abort();
    }
    send_ns += b - a;
    recv_ns += olly::monotonic_now() - b;
  }
  times[0] = static_cast<double>(send_ns) / kCalls;
  times[1] = static_cast<double>(recv_ns) / kCalls;
  olly::Nanos begin = olly::monotonic_now();
  for (int i = 0; i < kCalls; ++i) {
    if (pwrite(file, buffer, sizeof buffer, 0) != sizeof buffer) std::abort();
  }
  times[2] = static_cast<double>(olly::monotonic_now() - begin) / kCalls;
  begin = olly::monotonic_now();
  for (int i = 0; i < kCalls; ++i) syscall(SYS_getppid);
  times[3] = static_cast<double>(olly::monotonic_now() - begin) / kCalls;
  return times;
}

// A child that measures whenever a byte comes, and answers with the times.
struct Worker {
  pid_t pid = 0;
  int to = -1;
  int from = -1;

  Worker() {
    int in[2];
    int out[2];
    if (pipe(in) != 0 || pipe(out) != 0) std::exit(1);
    pid = fork();
    if (pid == 0) {
      close(in[1]);
      close(out[0]);
      pin(1);
      const Pair pair = make_pair();
      char name[] = "/tmp/bench_syscalls.XXXXXX";
      const int file = mkstemp(name);
      unlink(name);
      char go = 0;
      while (read(in[0], &go, 1) == 1) {
        const Times times = measure(pair, file);
        if (write(out[1], &times, sizeof times) != sizeof times) break;
      }
      _exit(0);
    }
    close(in[0]);
    close(out[1]);
    to = in[1];
    from = out[0];
  }
  Times run() const {
    Times times{};
    if (write(to, "x", 1) != 1 || read(from, &times, sizeof times) != sizeof times) std::exit(1);
    return times;
  }
  ~Worker() {
    close(to);
    waitpid(pid, nullptr, 0);
    close(from);
  }
};

class Count : public olly::EventSink {
 public:
  void on_process(const olly::ProcessEvent&) noexcept override {}
  void on_connect(const olly::ConnectEvent&) noexcept override {}
  void on_open(const olly::OpenEvent&) noexcept override {}
  void on_io(const olly::IoEvent&) noexcept override { ++io; }
  void on_close(const olly::CloseEvent&) noexcept override {}
  void on_advance(olly::Nanos) noexcept override {}
  std::uint64_t io = 0;
};

void keep_least(Times& least, const Times& now) {
  for (int k = 0; k < kKinds; ++k) least[k] = std::min(least[k], now[k]);
}

}  // namespace

int main(int argc, char** argv) {
  olly::EbpfOptions options;
  options.observe_unknown = false;
  int rounds = 8;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view key = argv[i];
    const std::string_view value = argv[i + 1];
    if (key == "--capture" && value == "syscall")
      options.capture = olly::config::CaptureChoice::syscall;
    if (key == "--capture" && value == "sockio")
      options.capture = olly::config::CaptureChoice::sockio;
    if (key == "--rounds") rounds = std::atoi(argv[i + 1]);
  }
  olly::MetricRegistry registry;
  options.registry = &registry;
  pin(0);
  const Worker observed;
  const Worker unobserved;
  Times with_observed, with_unobserved, without_observed, without_unobserved;
  for (Times* t : {&with_observed, &with_unobserved, &without_observed, &without_unobserved})
    t->fill(1e12);
  std::uint64_t events = 0;
  std::string capture;
  for (int round = 0; round < rounds; ++round) {
    keep_least(without_observed, observed.run());
    keep_least(without_unobserved, unobserved.run());
    olly::EbpfProvider provider(options);
    if (const auto started = provider.start(); !started) {
      fmt::print(stderr, "{}\n{}\n", started.error().message, started.error().hint);
      return 77;
    }
    capture = provider.capture();
    provider.set_process(static_cast<std::uint32_t>(observed.pid), {});
    std::atomic<bool> done = false;
    std::uint64_t seen = 0;
    std::jthread reader([&] {
      pin(0);
      Count sink;
      while (!done) provider.poll(sink, 100 * olly::kMillisecond);
      while (provider.poll(sink, 0) && sink.io != seen) seen = sink.io;
      seen = sink.io;
    });
    keep_least(with_observed, observed.run());
    keep_least(with_unobserved, unobserved.run());
    done = true;
    provider.wake();
    reader.join();
    provider.stop();
    events += seen;
  }
  fmt::print("capture {}, {} rounds of {} calls, ns per call, minimum; {} IO events\n", capture,
             rounds, kCalls, events);
  fmt::print("{:<14}{:>10}{:>12}{:>10}{:>14}{:>10}\n", "call", "without", "observed", "adds",
             "unobserved", "adds");
  for (int k = 0; k < kKinds; ++k) {
    fmt::print("{:<14}{:>10.0f}{:>12.0f}{:>+10.0f}{:>14.0f}{:>+10.0f}\n", kNames[k],
               without_observed[k], with_observed[k], with_observed[k] - without_observed[k],
               with_unobserved[k], with_unobserved[k] - without_unobserved[k]);
  }
  registry.visit([](const olly::MetricRegistry::Sample& s) {
    if (s.name == "olly_drops_total" && s.value > 0) {
      fmt::print("lost: {} {}\n", s.labels->front().second, s.value);
    }
  });
  return 0;
}
