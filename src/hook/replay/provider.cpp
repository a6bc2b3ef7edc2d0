#include "hook/replay/provider.h"

#include <algorithm>

namespace olly::replay {
namespace {

ProcessPtr make_process(const ProcessLine& line) {
  auto resource = std::make_shared<Resource>();
  resource->service_name = line.service;
  resource->pid = line.pid;
  resource->attributes.add("service.name", line.service);
  resource->attributes.add("process.pid", static_cast<std::int64_t>(line.pid));
  if (!line.exe.empty()) {
    resource->attributes.add("process.executable.name",
                             std::string_view(line.exe).substr(line.exe.rfind('/') + 1));
    resource->attributes.add("process.executable.path", line.exe);
  }
  auto process = std::make_shared<Process>();
  process->pid = line.pid;
  process->exe = line.exe;
  process->service = line.service;
  process->runtime = line.runtime;
  process->resource = std::move(resource);
  return process;
}

}  // namespace

ReplayProvider::ReplayProvider(const Recording& recording, ProviderOptions options)
    : recording_(recording), options_(std::move(options)) {
  for (const ProcessLine& p : recording.processes) processes_[p.pid] = make_process(p);
  for (const ConnLine& c : recording.conns) {
    State& s = states_.emplace_back();
    s.position = {c.recv_pos, c.send_pos};
    if (c.tls) s.plaintext = s.position;
    s.connected = c.role != Role::outbound || c.met || c.connect_told;
  }
}

ProcessPtr ReplayProvider::process(std::uint32_t pid) noexcept {
  ProcessPtr& p = processes_[pid];
  if (!p) {
    ProcessLine unknown;
    unknown.pid = pid;
    unknown.service = "unknown";
    p = make_process(unknown);
  }
  return p;
}

bool ReplayProvider::poll(EventSink& sink, Nanos) noexcept {
  constexpr std::size_t kBatch = 256;
  for (std::size_t n = 0; n < kBatch && next_ < recording_.steps.size(); ++n, ++next_) {
    const Step& step = recording_.steps[next_];
    const Nanos at = kStart + step.at;
    if (at != now_) sink.on_advance(at);
    now_ = at;
    play(step, options_.lost.contains(next_), sink);
  }
  sink.on_advance(now_);
  return next_ < recording_.steps.size();
}

void ReplayProvider::play(const Step& step, bool lost, EventSink& sink) noexcept {
  switch (step.kind) {
    case Step::Kind::wait:
      return;
    case Step::Kind::lost:
      return sink.on_loss({now_, now_ + step.duration});
    case Step::Kind::exec:
    case Step::Kind::exit: {
      const ProcessLine& p = recording_.processes[step.subject];
      ProcessEvent e;
      e.kind = step.kind == Step::Kind::exec ? ProcessEvent::Kind::exec : ProcessEvent::Kind::exit;
      e.time = now_;
      e.pid = p.pid;
      e.parent_pid = p.parent;
      const std::string_view exe = p.exe;
      e.comm = exe.substr(exe.rfind('/') + 1).substr(0, 15);
      e.filename = exe;
      e.exe = exe;
      e.service = p.service;
      return sink.on_process(e);
    }
    case Step::Kind::open:
      return open(step, sink);
    case Step::Kind::connect:
      return connect(step, sink);
    case Step::Kind::close: {
      const State& s = states_[step.subject];
      CloseEvent e;
      e.time = now_;
      e.sock = socket_of(step.subject);
      e.recv_pos = s.position[0];
      e.send_pos = s.position[1];
      e.positions_known = true;
      e.error = step.error;
      return sink.on_close(e);
    }
    case Step::Kind::tls:
      return sink.on_tls({now_, socket_of(step.subject), step.tls.version, step.tls.cipher,
                          step.tls.alpn, step.tls.server_name});
    case Step::Kind::gap:
    case Step::Kind::io:
      if (lost) {
        position_of(step) += step.length;
        return;
      }
      return io(step, !options_.uncaptured.contains(next_), sink);
  }
}

void ReplayProvider::open(const Step& step, EventSink& sink) noexcept {
  const ConnLine& c = recording_.conns[step.subject];
  OpenEvent e;
  e.time = now_;
  e.task = step.task;
  e.sock = socket_of(step.subject);
  e.role = c.role;
  e.local = c.local;
  e.remote = c.remote;
  e.path = c.path;
  e.identity = c.identity;
  e.netns = c.netns;
  e.recv_pos = states_[step.subject].position[0];
  e.send_pos = states_[step.subject].position[1];
  e.met = c.met;
  sink.on_open(e);
  if (c.tls) sink.on_tls({now_, e.sock, 0, 0, {}, {}});
}

std::uint64_t& ReplayProvider::position_of(const Step& step) noexcept {
  State& s = states_[step.subject];
  std::uint64_t& position = (step.plaintext ? s.plaintext : s.position)[index(step.direction)];
  if (step.position) position = *step.position;
  return position;
}

void ReplayProvider::connect(const Step& step, EventSink& sink) noexcept {
  ConnectEvent e;
  e.time = now_;
  e.task = step.task;
  e.sock = socket_of(step.subject);
  e.error = step.error;
  sink.on_connect(e);
}

void ReplayProvider::io(const Step& step, bool captured, EventSink& sink) noexcept {
  State& s = states_[step.subject];
  if (!s.connected && step.kind == Step::Kind::io) {
    // Nobody said who connected: whoever uses it first.
    s.connected = true;
    connect(step, sink);
  }
  IoEvent e;
  e.time = now_;
  e.task = step.task;
  e.sock = socket_of(step.subject);
  e.direction = step.direction;
  e.eof = step.eof;
  e.nonblocking = step.nonblocking;
  e.overlap = step.overlap;
  e.plaintext = step.plaintext;
  e.ciphertext = step.ciphertext;
  std::uint64_t& position = position_of(step);
  if (options_.split.empty() || step.length == 0 || !captured) {
    e.position = position;
    e.length = step.length;
    if (captured) {
      e.payload_offset = step.payload_offset;
      e.payload = as_bytes(step.payload);
    }
    sink.on_io(e);
    position += step.length;
    return;
  }
  e.eof = false;
  std::uint32_t done = 0;
  for (std::size_t part = 0; done < step.length; ++part) {
    const std::uint32_t want = options_.split[std::min(part, options_.split.size() - 1)];
    const std::uint32_t size = std::min(std::max(want, 1u), step.length - done);
    const std::uint32_t captured_from = std::max(done, step.payload_offset);
    const std::uint32_t captured_to = std::min<std::uint32_t>(
        done + size, step.payload_offset + static_cast<std::uint32_t>(step.payload.size()));
    e.position = position;
    e.length = size;
    e.payload_offset = 0;
    e.payload = {};
    if (captured_from < captured_to) {
      e.payload_offset = captured_from - done;
      e.payload = as_bytes(step.payload)
                      .subspan(captured_from - step.payload_offset, captured_to - captured_from);
    }
    sink.on_io(e);
    position += size;
    done += size;
  }
}

}  // namespace olly::replay
