#include "hook/socket/socket_provider.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <random>
#include <unordered_set>
#include <vector>

#include "base/log.h"
#include "hook/decode.h"
#include "hook/socket/doorbell.h"
#include "hook/socket/listener.h"
#include "hook/socket/program.h"
#include "metrics/shared_total.h"

namespace olly {
namespace {

using preload::Program;
using preload::Region;
using preload::SlotReader;

// As in the eBPF provider: what another thread is just writing comes in order.
constexpr Nanos kHorizon = 1 * kMillisecond;
constexpr Nanos kStayAwake = 100 * kMillisecond;
constexpr Nanos kPause = 4 * kMillisecond;
constexpr Nanos kShortPause = 1 * kMillisecond;
// How often rings are looked at where nobody can wake us (no futex_waitv, or too many programs).
constexpr Nanos kLookAround = 20 * kMillisecond;
constexpr Nanos kBeat = 100 * kMillisecond;
constexpr Nanos kLookAtProcesses = 10 * kMillisecond;
constexpr std::size_t kBatch = 65536;
constexpr std::uint64_t kReleaseEvery = 64 * 1024;
constexpr std::size_t kMaxPrograms = 1024;
constexpr std::size_t kMaxVerdicts = 16384;
constexpr std::size_t kMaxTypes = 11;
constexpr const char* kTypeNames[kMaxTypes] = {"pad", "exec",  "fork", "exit", "connect", "open",
                                               "io",  "close", "file", "tls",  "inject"};
constexpr const char* kDropNames[OLLY_PRELOAD_DROPS] = {"ring_full", "no_ring", "reentered",
                                                        "no_socket_state"};
constexpr const char* kRefusalNames[OLLY_REFUSALS] = {"owner", "whole", "record"};
static_assert(OLLY_PRELOAD_BEAT_NS >= 2 * kBeat);

// From /proc/PID/stat; 0 = not known.
std::uint32_t parent_of(std::uint32_t pid) {
  const UniqueFd fd(::open(fmt::format("/proc/{}/stat", pid).c_str(), O_RDONLY | O_CLOEXEC));
  char text[512];
  const ssize_t n = fd ? ::read(fd.get(), text, sizeof text - 1) : -1;
  if (n <= 0) return 0;
  text[n] = '\0';
  const char* behind_name = std::strrchr(text, ')');  // the name may hold anything
  unsigned parent = 0;
  if (behind_name == nullptr || std::sscanf(behind_name, ") %*c %u", &parent) != 1) return 0;
  return parent;
}

std::uint32_t network_of(std::uint32_t pid) {
  struct stat status {};
  if (::stat(fmt::format("/proc/{}/ns/net", pid).c_str(), &status) != 0) return 0;
  return static_cast<std::uint32_t>(status.st_ino);
}

}  // namespace

struct SocketProvider::Impl {
  explicit Impl(const SocketOptions& o)
      : options(o),
        gate(std::random_device{}() * 0x100000001ULL + std::random_device{}(), o.kernel) {}

  SocketOptions options;
  preload::Listener listener;
  preload::Gate gate;
  std::vector<std::unique_ptr<Program>> programs;
  std::unordered_set<std::uint32_t> no_injection;  // pids with such a verdict
  UniqueFd wake_fd;
  UniqueFd epoll;
  std::unique_ptr<preload::Doorbell> doorbell;
  bool running = false;
  bool capturing = true;
  Nanos off_since = 0;
  Nanos last = 0;  // time of the latest event
  Nanos last_event = 0, last_beat = 0, last_look = 0, last_drain = 0;
  std::uint64_t late = 0, malformed = 0, refused = 0;
  std::uint64_t lost = 0;                             // records that did not come
  std::uint64_t past_drops[OLLY_PRELOAD_DROPS] = {};  // of programs that are no more
  std::uint64_t past_refused[OLLY_REFUSALS] = {};
  std::uint64_t past_bad = 0;
  std::uint64_t by_type[kMaxTypes] = {};
  bool hurry = false;  // a ring is filling up
  struct Source {
    SlotReader* reader;
    Program* program;
  };
  std::vector<Source> heap;
  std::size_t handed = 0;  // since collect()
  Nanos collected = 0;     // when that was
  std::vector<std::uint32_t*> words;
  bool armed = false;

  SharedTotal events[kMaxTypes];
  SharedTotal drops[OLLY_PRELOAD_DROPS];
  SharedTotal not_injected[OLLY_REFUSALS];
  SharedTotal bad_records;
  SharedTotal late_records;
  Counter* refused_programs = nullptr;
  Gauge* attached = nullptr;

  void register_metrics();
  void publish() noexcept;
  std::uint64_t dropped(int why) noexcept;
  std::uint64_t bad() const noexcept;
  void take_new(EventSink& sink, Nanos now);
  void add_program(preload::Registration registration, EventSink& sink);
  void announce(const preload::Registration& r, bool known, EventSink& sink) noexcept;
  void set_rules(Program& program) noexcept;
  void look(Nanos wait) noexcept;
  void pause(Nanos now, Nanos wait);
  Nanos arm(Nanos now, Nanos wait) noexcept;
  void disarm(Nanos now) noexcept;
  bool empty() noexcept;
  void beat(Nanos now) noexcept;
  void report_loss(Nanos now, EventSink& sink) noexcept;
  std::size_t drain(EventSink& sink);
  void collect(EventSink& sink, Nanos now);
  std::size_t hand_on(Nanos until, EventSink& sink) noexcept;
  void hand_on(const Source& from, EventSink& sink) noexcept;
  void settle(EventSink& sink);
  void bury(EventSink& sink);
};

void SocketProvider::Impl::register_metrics() {
  if (options.registry == nullptr) return;
  MetricRegistry& r = *options.registry;
  for (std::size_t i = OLLY_REC_EXEC; i < kMaxTypes; ++i) {
    events[i].bind(
        r.counter("olly_events_total", "Records read from the kernel", {{"type", kTypeNames[i]}}));
  }
  const char* help = "What was lost, by cause";
  for (int i = 0; i < OLLY_PRELOAD_DROPS; ++i) {
    drops[i].bind(r.counter("olly_drops_total", help, {{"cause", kDropNames[i]}}));
  }
  for (int i = 0; i < OLLY_REFUSALS; ++i) {
    not_injected[i].bind(r.counter("olly_not_injected_total",
                                   "Requests to a destination of header injection without a header",
                                   {{"cause", kRefusalNames[i]}}));
  }
  bad_records.bind(r.counter("olly_drops_total", help, {{"cause", "bad_record"}}));
  late_records.bind(r.counter("olly_late_events_total",
                              "Events whose time stamp was raised to keep time from going back"));
  attached = &r.gauge("olly_preloaded_programs", "Programs attached through libolly.so");
  refused_programs = &r.counter("olly_preloaded_refused_total",
                                "Attempts to attach through libolly.so that were refused");
}

std::uint64_t SocketProvider::Impl::dropped(int why) noexcept {
  std::uint64_t sum = past_drops[why];
  for (const auto& p : programs) sum += p->region->drops(static_cast<olly_preload_drop>(why));
  return sum;
}

std::uint64_t SocketProvider::Impl::bad() const noexcept {
  std::uint64_t sum = past_bad + malformed + gate.refused();
  for (const auto& p : programs) {
    for (const auto& reader : p->readers) sum += reader->bad();
  }
  return sum;
}

void SocketProvider::Impl::publish() noexcept {
  if (options.registry == nullptr) return;
  for (std::size_t i = OLLY_REC_EXEC; i < kMaxTypes; ++i) events[i].set(by_type[i]);
  for (int i = 0; i < OLLY_PRELOAD_DROPS; ++i) drops[i].set(dropped(i));
  for (int i = 0; i < OLLY_REFUSALS; ++i) {
    std::uint64_t sum = past_refused[i];
    for (const auto& p : programs) sum += p->region->refused(static_cast<olly_inject_refusal>(i));
    not_injected[i].set(sum);
  }
  bad_records.set(bad());
  late_records.set(late);
  refused_programs->set(refused + listener.refused());
  attached->set(static_cast<std::int64_t>(programs.size()));
}

// A program that is new to the pipeline: its parent and what it is, before anything it did.
void SocketProvider::Impl::announce(const preload::Registration& r, bool known,
                                    EventSink& sink) noexcept {
  ProcessEvent event;
  event.time = last;
  event.pid = r.pid;
  event.comm = r.hello.comm;
  if (options.kernel != nullptr) return;  // it has said so
  if (!known) {
    event.kind = ProcessEvent::Kind::fork;
    event.parent_pid = parent_of(r.pid);
    ++by_type[OLLY_REC_FORK];
    sink.on_process(event);
  }
  // A forked child runs its parent's program, and is asked for like one.
  event.kind = ProcessEvent::Kind::exec;
  event.filename = r.hello.filename;
  ++by_type[OLLY_REC_EXEC];
  sink.on_process(event);
}

void SocketProvider::Impl::add_program(preload::Registration r, EventSink& sink) {
  auto region = Region::take(r.region);
  if (!region || programs.size() >= kMaxPrograms) {
    ++refused;
    log::warn("process {} ({}) is not observed: {}", r.pid, r.hello.comm,
              region ? "too many programs at once" : region.error().message);
    return;
  }
  auto program = std::make_unique<Program>();
  program->pid = r.pid;
  program->uid = r.uid;
  program->since = monotonic_now();
  program->netns = network_of(r.pid);
  if (program->netns == 0) program->netns = r.hello.netns;  // it is gone already
  program->region = std::move(*region);
  const auto most =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(options.max_bytes_per_call, UINT32_MAX));
  program->policy = PolicyTable(program->region->policies(), most);
  program->region->set_copy(std::min(most, OLLY_PRELOAD_MAX_COPY));
  program->region->beat(program->since);
  if (options.kernel != nullptr) program->observed = options.kernel->observed(r.pid);
  program->region->set_quiet(!capturing || !program->observed);
  program->pidfd.reset(static_cast<int>(::syscall(SYS_pidfd_open, r.pid, 0)));
  if (program->pidfd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = program.get();
    ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, program->pidfd.get(), &event);
  } else {
    program->ended = program->gone = true;
  }
  bool known = false;
  for (const auto& p : programs) {
    if (p->pid != r.pid) continue;
    known = true;
    p->ended = true;  // the process has another region now
  }
  Program& added = *programs.emplace_back(std::move(program));
  if (!known || r.hello.kind == OLLY_PRELOAD_EXEC) announce(r, known, sink);
  set_rules(added);
  added.region->tell();
}

void SocketProvider::Impl::set_rules(Program& program) noexcept {
  if (no_injection.contains(program.pid)) {
    program.region->set_rules({});
  } else {
    program.region->set_rules(options.inject);
  }
}

void SocketProvider::Impl::take_new(EventSink& sink, Nanos now) {
  for (preload::Registration& r : listener.take(now, 64)) add_program(std::move(r), sink);
}

void SocketProvider::Impl::look(Nanos wait) noexcept {
  std::array<epoll_event, 32> ready;
  const auto timeout =
      static_cast<int>(std::min<Nanos>((wait + kMillisecond - 1) / kMillisecond, 3'600'000));
  const int n = epoll_wait(epoll.get(), ready.data(), static_cast<int>(ready.size()), timeout);
  for (int i = 0; i < n; ++i) {
    void* of = ready[static_cast<std::size_t>(i)].data.ptr;
    if (of == this) {
      std::uint64_t value = 0;
      [[maybe_unused]] const ssize_t ignored = ::read(wake_fd.get(), &value, sizeof value);
    } else if (of != &listener) {
      auto* program = static_cast<Program*>(of);
      program->ended = program->gone = true;
      program->pidfd.reset();  // leaves the epoll set with it
    }
  }
  last_look = monotonic_now();
}

bool SocketProvider::Impl::empty() noexcept {
  for (const auto& p : programs) {
    if (p->ended || p->readers.size() < p->region->used_slots()) return false;
    for (const auto& reader : p->readers) {
      if (reader->pending() > 0) return false;
    }
  }
  return true;
}

// Waits for the next drain: a few milliseconds while events come, else until somebody rings.
void SocketProvider::Impl::pause(Nanos now, Nanos wait) {
  wait = arm(now, wait);
  if (wait > 0) look(wait);
  disarm(now);
}

Nanos SocketProvider::Impl::arm(Nanos now, Nanos wait) noexcept {
  if (now - last_event <= kStayAwake || !empty() || !running) {
    return std::min(wait, hurry ? kShortPause : kPause);
  }
  armed = true;
  words.clear();
  for (const auto& p : programs) words.push_back(p->region->sleep_word());
  for (std::uint32_t* word : words) __atomic_store_n(word, 1, __ATOMIC_SEQ_CST);
  // A record whose writer did not see the flag yet, and that is not seen yet here, waits until the
  // end of this sleep: a fifth of a second. A fence in every hooked call would cost more.
  if (!empty()) return 0;
  return listener.waiting() || !doorbell->arm(words) ? std::min(wait, kLookAround) : wait;
}

void SocketProvider::Impl::disarm(Nanos now) noexcept {
  if (!armed) return;
  armed = false;
  doorbell->disarm();
  for (std::uint32_t* word : words) __atomic_store_n(word, 0, __ATOMIC_RELAXED);
  // Rung for nothing (a program may write what it likes): do not let it make us spin.
  const Nanos after = monotonic_now();
  last_event = empty() && after - now >= kPause ? last_event : after;
}

void SocketProvider::Impl::beat(Nanos now) noexcept {
  if (now - last_beat < kBeat) return;
  last_beat = now;
  for (const auto& p : programs) p->region->beat(now);
  publish();
}

void SocketProvider::Impl::report_loss(Nanos now, EventSink& sink) noexcept {
  std::uint64_t sum = bad();
  for (int i = 0; i < OLLY_PRELOAD_DROPS; ++i) sum += dropped(i);
  if (sum != lost) sink.on_loss({last_drain - std::min(last_drain, kHorizon), monotonic_now()});
  lost = sum;
  last_drain = now;
}

void SocketProvider::Impl::hand_on(const Source& from, EventSink& sink) noexcept {
  const ByteView record = from.reader->peek();
  Nanos time = std::min(from.reader->time(), collected);  // nobody writes in the future
  if (time < last) {
    ++late;
    time = last;
  }
  last = time;
  gate.enter(*from.program, sink);
  const auto type = reinterpret_cast<const olly_record*>(record.data())->type;
  if (type == OLLY_REC_IO && !capturing && from.reader->time() >= off_since) {
    // Its program has attached just now, or has not seen yet that capture is off: a gap.
  } else if (decode_record(record, time, gate)) {
    ++by_type[std::min<std::size_t>(type, kMaxTypes - 1)];
  } else {
    ++malformed;
  }
  from.reader->pop();
}

namespace {

bool later(const SlotReader* a, const SlotReader* b) noexcept { return a->time() > b->time(); }

}  // namespace

void SocketProvider::Impl::collect(EventSink& sink, Nanos now) {
  collected = now;
  handed = 0;
  beat(now);
  report_loss(now, sink);
  heap.clear();
  hurry = false;
  for (const auto& p : programs) {
    for (auto i = static_cast<std::uint32_t>(p->readers.size()); i < p->region->used_slots(); ++i) {
      p->readers.push_back(std::make_unique<SlotReader>(*p->region, i));
    }
    for (const auto& reader : p->readers) {
      hurry |= reader->pending() > p->region->ring_bytes() / 16;
      if (!reader->peek().empty()) heap.push_back({reader.get(), p.get()});
    }
  }
  std::make_heap(heap.begin(), heap.end(),
                 [](const Source& a, const Source& b) { return later(a.reader, b.reader); });
}

// At most kBatch records between two looks at everything else: a program may write faster than they
// are read.
std::size_t SocketProvider::Impl::hand_on(Nanos until, EventSink& sink) noexcept {
  const auto order = [](const Source& a, const Source& b) { return later(a.reader, b.reader); };
  const std::size_t before = handed;
  while (!heap.empty() && handed < kBatch) {
    const Source next = heap.front();
    if (std::min(next.reader->time(), collected) > until) break;
    std::pop_heap(heap.begin(), heap.end(), order);
    heap.pop_back();
    hand_on(next, sink);
    ++handed;
    if (next.reader->unreleased() >= kReleaseEvery) next.reader->release();
    if (!next.reader->peek().empty()) {
      heap.push_back(next);
      std::push_heap(heap.begin(), heap.end(), order);
    }
  }
  if (handed < kBatch || options.kernel != nullptr) last = std::max(last, until);
  return handed - before;
}

void SocketProvider::Impl::settle(EventSink& sink) {
  for (const auto& p : programs) {
    for (const auto& reader : p->readers) reader->release();
  }
  if (handed > 0) last_event = collected;
  bury(sink);
}

// Records up to the horizon, in the order of their time stamps.
std::size_t SocketProvider::Impl::drain(EventSink& sink) {
  const Nanos now = monotonic_now();
  collect(sink, now);
  const std::size_t count = hand_on(running ? now - kHorizon : now, sink);
  settle(sink);
  return count;
}

// Programs that have ended and said all leave.
void SocketProvider::Impl::bury(EventSink& sink) {
  std::erase_if(programs, [&](std::unique_ptr<Program>& p) {
    if (!p->ended) return false;
    if (p->readers.size() < p->region->used_slots()) return false;
    for (const auto& reader : p->readers) {
      if (!reader->peek().empty()) return false;
    }
    gate.leave(*p, sink, last);
    for (int i = 0; i < OLLY_PRELOAD_DROPS; ++i) {
      past_drops[i] += p->region->drops(static_cast<olly_preload_drop>(i));
    }
    for (int i = 0; i < OLLY_REFUSALS; ++i) {
      past_refused[i] += p->region->refused(static_cast<olly_inject_refusal>(i));
    }
    for (const auto& reader : p->readers) past_bad += reader->bad();
    if (p->gone && options.kernel == nullptr) {
      ProcessEvent event;
      event.kind = ProcessEvent::Kind::exit;
      event.time = last;
      event.pid = p->pid;
      ++by_type[OLLY_REC_EXIT];
      sink.on_process(event);
    }
    return true;
  });
}

SocketProvider::SocketProvider(const SocketOptions& options)
    : impl_(std::make_unique<Impl>(options)) {
  impl_->wake_fd.reset(
      eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));  // here: wake() may come before start()
}

SocketProvider::~SocketProvider() { stop(); }

Result<void> SocketProvider::start() {
  Impl& impl = *impl_;
  const std::string path =
      impl.options.path.empty() ? preload::default_socket_path() : impl.options.path;
  impl.epoll.reset(epoll_create1(EPOLL_CLOEXEC));
  if (auto done = impl.listener.start(path); !done) return done;
  const auto add = [&](int fd, void* of) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = of;
    return epoll_ctl(impl.epoll.get(), EPOLL_CTL_ADD, fd, &event) == 0;
  };
  if (!add(impl.wake_fd.get(), &impl) || !add(impl.listener.fd(), &impl.listener)) {
    impl.listener.stop();
    return fail(ErrorCode::io, std::string("epoll: ") + std::strerror(errno));
  }
  impl.register_metrics();
  impl.doorbell = std::make_unique<preload::Doorbell>(impl.wake_fd.get());
  impl.running = true;
  impl.capturing = impl.options.capturing;
  impl.last = impl.last_event = impl.last_drain = monotonic_now();
  if (impl.options.kernel == nullptr) {
    log::info("programs that run with libolly.so report at {}", path);
  } else {  // not what this agent is for
    log::debug("beside the kernel, programs that run with libolly.so report at {}", path);
  }
  return {};
}

bool SocketProvider::poll(EventSink& sink, Nanos wait) noexcept {
  Impl& impl = *impl_;
  const Nanos now = monotonic_now();
  if (impl.running && now - impl.last_look >= kLookAtProcesses) impl.look(0);
  impl.take_new(sink, now);
  std::size_t n = impl.drain(sink);
  if (n == 0 && impl.running) {
    if (wait > 0) impl.pause(monotonic_now(), wait);
    impl.take_new(sink, monotonic_now());
    n = impl.drain(sink);
  }
  impl.gate.on_advance(impl.last);
  sink.on_advance(impl.last);
  return n > 0 || impl.running;
}

int SocketProvider::fd() const noexcept { return impl_->epoll.get(); }

void SocketProvider::collect(EventSink& sink, Nanos now) {
  Impl& impl = *impl_;
  if (impl.running && now - impl.last_look >= kLookAtProcesses) impl.look(0);
  impl.take_new(sink, now);
  impl.collect(sink, now);
}

std::size_t SocketProvider::hand_on(Nanos time, EventSink& sink) noexcept {
  return impl_->hand_on(time, sink);
}

void SocketProvider::settle(EventSink& sink) {
  impl_->settle(sink);
  impl_->gate.on_advance(impl_->last);
}

Nanos SocketProvider::arm(Nanos now, Nanos wait) noexcept { return impl_->arm(now, wait); }

void SocketProvider::disarm(Nanos now) noexcept {
  impl_->disarm(now);
  if (impl_->running) impl_->look(0);
}

void SocketProvider::exec(std::uint32_t pid, Nanos time) noexcept {
  for (const auto& p : impl_->programs) {
    if (p->pid == pid && p->since < time) p->ended = true;
  }
}

void SocketProvider::stop() noexcept {
  Impl& impl = *impl_;
  if (!impl.running) return;
  impl.running = false;
  impl.doorbell->stop();
  impl.listener.stop();
  for (const auto& p : impl.programs) p->region->detach();
  impl.publish();
}

void SocketProvider::wake() noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = ::write(impl_->wake_fd.get(), &one, sizeof one);
}

void SocketProvider::set_capture(bool on) noexcept {
  if (!on && impl_->capturing) impl_->off_since = monotonic_now();
  impl_->capturing = on;
  for (const auto& p : impl_->programs) p->region->set_quiet(!on || !p->observed);
}

std::size_t SocketProvider::programs() const noexcept { return impl_->programs.size(); }

void SocketProvider::skip_until(SocketId sock, Direction direction,
                                std::uint64_t position) noexcept {
  std::uint64_t cookie = 0;
  Program* p = impl_->gate.holder(sock, cookie);
  if (p != nullptr) p->policy.skip_until(cookie, direction, position);
}
void SocketProvider::limit_copy(SocketId sock, std::uint32_t bytes) noexcept {
  std::uint64_t cookie = 0;
  Program* p = impl_->gate.holder(sock, cookie);
  if (p != nullptr) p->policy.limit_copy(cookie, bytes);
}
void SocketProvider::quiet(SocketId sock) noexcept {
  std::uint64_t cookie = 0;
  Program* p = impl_->gate.holder(sock, cookie);
  if (p != nullptr) p->policy.quiet(cookie);
}
void SocketProvider::forget(SocketId sock) noexcept {
  std::uint64_t cookie = 0;
  Program* p = impl_->gate.holder(sock, cookie);
  if (p != nullptr) p->policy.forget(cookie);
}

void SocketProvider::set_process(std::uint32_t pid, const ProcessVerdict& verdict) noexcept {
  if (verdict.inject) {
    impl_->no_injection.erase(pid);
  } else if (impl_->no_injection.size() < kMaxVerdicts) {
    impl_->no_injection.insert(pid);
  }
  for (const auto& p : impl_->programs) {
    if (p->pid != pid) continue;
    impl_->set_rules(*p);
    p->observed = verdict.observe;
    p->region->set_quiet(!impl_->capturing || !p->observed);
  }
}

}  // namespace olly
