// Prints what the eBPF provider sees, one event a line, until Ctrl-C. A debugging tool:
//   dump_events [sockio|syscall|auto] [PID...]     with PIDs only those (and their children)
#include <fmt/format.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "hook/ebpf/ebpf_provider.h"

namespace {

volatile std::sig_atomic_t stopped = 0;

class Printer : public olly::EventSink {
 public:
  void on_process(const olly::ProcessEvent& e) noexcept override {
    const char* kinds[] = {"exec", "fork", "exit"};
    fmt::print("{} {} pid={} parent={} comm={} file={}\n", e.time, kinds[static_cast<int>(e.kind)],
               e.pid, e.parent_pid, e.comm, e.filename);
  }
  void on_connect(const olly::ConnectEvent& e) noexcept override {
    fmt::print("{} connect sock={} pid={} tid={} error={}\n", e.time, e.sock, e.task.pid,
               e.task.tid, e.error);
  }
  void on_open(const olly::OpenEvent& e) noexcept override {
    const char* roles[] = {"unknown", "inbound", "outbound"};
    fmt::print(
        "{} open sock={} pid={} {} {} -> {} path='{}' id={:08x}/{:08x} recv={} send={} netns={} "
        "connect={}us{}{}\n",
        e.time, e.sock, e.task.pid, roles[static_cast<int>(e.role)], olly::endpoint_text(e.local),
        olly::endpoint_text(e.remote), e.path, e.identity.out_first, e.identity.in_first,
        e.recv_pos, e.send_pos, e.netns, e.connect_duration / 1000, e.met ? " met" : "",
        e.own ? " own" : "");
  }
  void on_io(const olly::IoEvent& e) noexcept override {
    std::string text;
    for (const std::uint8_t c : e.payload.first(std::min<std::size_t>(e.payload.size(), 48))) {
      text += c >= 32 && c < 127 ? static_cast<char>(c) : '.';
    }
    fmt::print("{} {} sock={} pid={} tid={} ec={} pos={} len={} off={} captured={}{}{}{}{} '{}'\n",
               e.time, e.direction == olly::Direction::recv ? "recv" : "send", e.sock, e.task.pid,
               e.task.tid, e.task.ec, e.position, e.length, e.payload_offset, e.payload.size(),
               e.eof ? " eof" : "", e.nonblocking ? " nonblock" : "", e.overlap ? " overlap" : "",
               e.plaintext    ? " plaintext"
               : e.ciphertext ? " ciphertext"
                              : "",
               text);
  }
  void on_close(const olly::CloseEvent& e) noexcept override {
    fmt::print("{} close sock={} recv={} send={} error={}\n", e.time, e.sock, e.recv_pos,
               e.send_pos, e.error);
  }
  void on_advance(olly::Nanos) noexcept override { std::fflush(stdout); }
};

}  // namespace

int main(int argc, char** argv) {
  olly::EbpfOptions options;
  if (argc > 1 && std::string_view(argv[1]) == "sockio")
    options.capture = olly::config::CaptureChoice::sockio;
  if (argc > 1 && std::string_view(argv[1]) == "syscall")
    options.capture = olly::config::CaptureChoice::syscall;
  options.observe_unknown = argc <= 2;
  olly::MetricRegistry registry;
  options.registry = &registry;
  olly::EbpfProvider provider(options);
  if (const auto started = provider.start(); !started) {
    fmt::print(stderr, "{}\n{}\n", started.error().message, started.error().hint);
    return 1;
  }
  for (int i = 2; i < argc; ++i)
    provider.set_process(static_cast<std::uint32_t>(std::atoi(argv[i])), {});
  std::signal(SIGINT, [](int) { stopped = 1; });
  std::signal(SIGTERM, [](int) { stopped = 1; });
  Printer printer;
  while (stopped == 0) provider.poll(printer, 200 * olly::kMillisecond);
  provider.stop();
  while (provider.poll(printer, 0)) {
  }
  registry.visit([](const olly::MetricRegistry::Sample& s) {
    fmt::print("# {}{} {}\n", s.name, s.labels->empty() ? "" : "{" + s.labels->front().second + "}",
               s.value);
  });
  return 0;
}
