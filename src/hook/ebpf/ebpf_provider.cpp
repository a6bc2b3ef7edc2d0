#include "hook/ebpf/ebpf_provider.h"

#include <bpf/bpf.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "hook/ebpf/loader.h"
#include "hook/ebpf/policy.h"
#include "hook/ebpf/tls/registry.h"
#include "metrics/shared_total.h"

namespace olly {
namespace {

// Only records older than this are handed on, so that what another CPU is just writing comes in
// order.
constexpr Nanos kHorizon = 1 * kMillisecond;
// After the last event the reader polls on for so long before it asks to be woken: a wake-up costs
// the observed program microseconds.
constexpr Nanos kStayAwake = 100 * kMillisecond;
constexpr int kPauseMs = 4;
constexpr int kShortPauseMs = 1;
constexpr unsigned kFillForShortPause = 256 / 16;
constexpr std::size_t kBatch = 65536;
constexpr Nanos kCounterPeriod = 100 * kMillisecond;
constexpr const char* kTypeNames[] = {"pad",  "exec", "fork",  "exit", "connect",
                                      "open", "io",   "close", "file"};
constexpr std::size_t kTypeCount = std::size(kTypeNames);
constexpr const char* kDropNames[OLLY_DROPS] = {"ring_full", "no_socket_state",
                                                "process_table_full", "tls_no_socket"};

}  // namespace

struct EbpfProvider::Impl {
  EbpfOptions options;
  std::unique_ptr<LoadedCapture> capture;
  std::unique_ptr<tls::Registry> tls;
  PolicyTable policy;
  UniqueFd wake_fd;
  UniqueFd epoll_wake;   // wake_fd only: for the pauses while events come
  UniqueFd epoll_sleep;  // and the rings: for sleeping
  bool attached = false;
  Nanos last_event = 0;
  Nanos last_counters = 0;
  Nanos last_look = 0;     // at `lost`
  std::uint64_t lost = 0;  // records that did not come
  SharedTotal events[kTypeCount];
  SharedTotal drops[OLLY_DROPS];
  SharedTotal bad_records;
  SharedTotal late_records;

  void register_metrics();
  void refresh_counters(Nanos now) noexcept;
  void start_tls();
  Result<void> make_polls();
  void pause(Nanos now, Nanos wait) noexcept;
  void report_loss(Nanos now, EventSink& sink) noexcept;
  std::size_t drain(EventSink& sink) noexcept;
};

void EbpfProvider::Impl::register_metrics() {
  if (options.registry == nullptr) return;
  MetricRegistry& r = *options.registry;
  for (std::size_t i = 1; i < kTypeCount; ++i) {
    events[i].bind(
        r.counter("olly_events_total", "Records read from the kernel", {{"type", kTypeNames[i]}}));
  }
  const char* help = "What was lost, by cause";
  for (int i = 0; i < OLLY_DROPS; ++i) {
    drops[i].bind(r.counter("olly_drops_total", help, {{"cause", kDropNames[i]}}));
  }
  bad_records.bind(r.counter("olly_drops_total", help, {{"cause", "bad_record"}}));
  late_records.bind(r.counter("olly_late_events_total",
                              "Events whose time stamp was raised to keep time from going back"));
}

void EbpfProvider::Impl::refresh_counters(Nanos now) noexcept {
  if (options.registry == nullptr || capture == nullptr) return;
  last_counters = now;
  std::uint64_t sums[OLLY_DROPS] = {};
  for (const olly_cpu& cpu : capture->counters()) {
    for (int i = 0; i < OLLY_DROPS; ++i)
      sums[i] += __atomic_load_n(&cpu.drops[i], __ATOMIC_RELAXED);
  }
  for (int i = 0; i < OLLY_DROPS; ++i) drops[i].set(sums[i]);
  const RingMerger& rings = capture->rings();
  for (std::size_t i = 1; i < kTypeCount; ++i) events[i].set(rings.count_of_type(i));
  bad_records.set(rings.bad_records());
  late_records.set(rings.late_records());
}

// Libraries are probed where the programs for it are loaded.
void EbpfProvider::Impl::start_tls() {
  bpf_program* call = capture->tls_program("call");
  bpf_program* result = capture->tls_program("result");
  bpf_program* go = capture->tls_program("go");
  if (call == nullptr || result == nullptr || go == nullptr) return;
  const auto wanted = [this](std::uint32_t pid) {
    olly_process verdict{};
    if (bpf_map_lookup_elem(capture->processes_fd(), &pid, &verdict) == 0)
      return verdict.observe != 0;
    return capture->control().observe_unknown != 0;
  };
  const auto armed = [this](std::uint32_t kinds) { capture->control().tls = kinds; };
  tls = std::make_unique<tls::Registry>(
      tls::RegistryOptions{options.tls_max_files, options.tls_expensive, options.registry},
      tls::ProbePrograms{call, result, go, capture->many_uprobes()}, wanted, armed);
  tls->start();
}

Result<void> EbpfProvider::Impl::make_polls() {
  epoll_wake.reset(epoll_create1(EPOLL_CLOEXEC));
  epoll_sleep.reset(epoll_create1(EPOLL_CLOEXEC));
  const auto add = [](const UniqueFd& epoll, int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    return epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) == 0;
  };
  std::vector<int> watched{wake_fd.get()};
  if (tls) {
    const std::vector<int> maps = tls->fds();
    watched.insert(watched.end(), maps.begin(), maps.end());
  }
  bool ok = wake_fd && epoll_wake && epoll_sleep;
  for (const int fd : watched) ok = ok && add(epoll_wake, fd) && add(epoll_sleep, fd);
  for (const UniqueFd& ring : capture->ring_fds()) ok = ok && add(epoll_sleep, ring.get());
  if (!ok) return fail(ErrorCode::io, std::string("epoll: ") + std::strerror(errno));
  return {};
}

// Waits for the next drain: a few milliseconds while events come, else until woken, at most `wait`.
void EbpfProvider::Impl::pause(Nanos now, Nanos wait) noexcept {
  volatile olly_control& control = capture->control();
  const int wait_ms =
      static_cast<int>(std::min<Nanos>((wait + kMillisecond - 1) / kMillisecond, 3'600'000));
  const bool sleep = now - last_event > kStayAwake && capture->rings().empty() && attached;
  epoll_event events_[4];
  int ready = 0;
  if (!sleep) {
    const int pause_ms = capture->rings().fill() >= kFillForShortPause ? kShortPauseMs : kPauseMs;
    ready = epoll_wait(epoll_wake.get(), events_, 4, std::min(wait_ms, pause_ms));
  } else {
    control.reader_sleeps = 1;
    // What was written before the kernel could see the flag would wake nobody: look once more.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (capture->rings().empty()) ready = epoll_wait(epoll_sleep.get(), events_, 4, wait_ms);
    control.reader_sleeps = 0;
    if (!capture->rings().empty()) last_event = monotonic_now();
  }
  for (int i = 0; i < ready; ++i) {
    if (events_[i].data.fd != wake_fd.get()) continue;
    std::uint64_t value = 0;
    [[maybe_unused]] const ssize_t n = ::read(wake_fd.get(), &value, sizeof value);
  }
}

// What is missing among the records up to `now` - kHorizon has been counted by now: it is said
// before they are handed on.
void EbpfProvider::Impl::report_loss(Nanos now, EventSink& sink) noexcept {
  std::uint64_t sum = capture->rings().bad_records();
  for (const olly_cpu& cpu : capture->counters()) {
    sum += __atomic_load_n(&cpu.drops[OLLY_DROP_RING_FULL], __ATOMIC_RELAXED) +
           __atomic_load_n(&cpu.drops[OLLY_DROP_NO_STATE], __ATOMIC_RELAXED);
  }
  // After the look: this thread may have been held up before it.
  if (sum != lost) sink.on_loss({last_look - std::min(last_look, kHorizon), monotonic_now()});
  lost = sum;
  last_look = now;
}

std::size_t EbpfProvider::Impl::drain(EventSink& sink) noexcept {
  const Nanos now = monotonic_now();
  const Nanos horizon = attached ? now - kHorizon : now;
  report_loss(now, sink);
  RingMerger& rings = capture->rings();
  const std::size_t n = rings.drain(horizon, kBatch, sink);
  if (n > 0) last_event = now;
  if (n < kBatch) rings.advance_to(horizon);  // all up to there has been handed on
  if (now - last_counters >= kCounterPeriod || !attached) refresh_counters(now);
  return n;
}

EbpfOptions ebpf_options(const config::Config& config) {
  EbpfOptions options;
  options.capture = config.hook.ebpf_capture;
  options.max_bytes_per_call = config.capture.max_bytes_per_call;
  options.ring_bytes = config.hook.ebpf_ring_size;
  options.tls = config.hook.ebpf_tls;
  options.tls_expensive = config.hook.ebpf_tls_expensive;
  options.tls_max_files = config.hook.ebpf_tls_max_files;
  return options;
}

EbpfProvider::EbpfProvider(const EbpfOptions& options) : impl_(std::make_unique<Impl>()) {
  impl_->options = options;
  impl_->wake_fd.reset(
      eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));  // here: wake() may come before start()
  impl_->register_metrics();
}

EbpfProvider::~EbpfProvider() { stop(); }

std::string_view EbpfProvider::capture() const noexcept {
  return impl_->capture ? impl_->capture->name() : std::string_view();
}

Result<void> EbpfProvider::start() {
  LoadOptions load;
  load.capture = impl_->options.capture;
  load.max_copy = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(impl_->options.max_bytes_per_call, OLLY_MAX_CALL));
  load.ring_bytes = impl_->options.ring_bytes;
  load.observe_unknown = impl_->options.observe_unknown;
  load.all_new = impl_->options.all_new;
  load.parsed = impl_->options.parsed;
  load.tls = impl_->options.tls;
  auto loaded = LoadedCapture::load(load);
  if (!loaded) return std::unexpected(loaded.error());
  impl_->capture = std::move(*loaded);
  impl_->policy = PolicyTable(impl_->capture->policies(), load.max_copy);
  set_capture(impl_->options.capturing);
  if (auto ok = impl_->capture->attach(); !ok) {
    impl_->capture.reset();
    return ok;
  }
  impl_->start_tls();
  if (auto ok = impl_->make_polls(); !ok) {
    impl_->tls.reset();
    impl_->capture.reset();
    return ok;
  }
  impl_->attached = true;
  impl_->last_event = impl_->last_look = monotonic_now();
  return {};
}

bool EbpfProvider::poll(EventSink& sink, Nanos wait) noexcept {
  Impl& impl = *impl_;
  if (impl.capture == nullptr) return false;
  if (impl.tls && impl.attached) impl.tls->poll(monotonic_now());
  std::size_t n = impl.drain(sink);
  if (n == 0 && impl.attached) {
    if (wait > 0) impl.pause(monotonic_now(), wait);
    n = impl.drain(sink);
  }
  sink.on_advance(impl.capture->rings().last_time());
  return n > 0 || impl.attached;
}

void EbpfProvider::stop() noexcept {
  if (!impl_->attached) return;
  impl_->attached = false;
  // All at once: the probes of TLS come off one after the other.
  __atomic_store_n(&impl_->capture->control().off, 1u, __ATOMIC_RELEASE);
  if (impl_->tls) impl_->tls->stop();
  impl_->capture->detach();
  impl_->refresh_counters(monotonic_now());
}

void EbpfProvider::set_capture(bool on) noexcept {
  if (impl_->capture == nullptr) return;
  impl_->capture->control().young = 0;
  __atomic_store_n(&impl_->capture->control().off, on ? 0u : 1u, __ATOMIC_RELEASE);
  if (on) impl_->capture->sees_all();
}

bool EbpfProvider::watch(int fd) noexcept {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  return epoll_ctl(impl_->epoll_wake.get(), EPOLL_CTL_ADD, fd, &event) == 0 &&
         epoll_ctl(impl_->epoll_sleep.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

void EbpfProvider::pause(Nanos wait) noexcept {
  if (impl_->attached) impl_->pause(monotonic_now(), wait);
}

bool EbpfProvider::observed(std::uint32_t pid) const noexcept {
  olly_process entry{};
  if (impl_->capture == nullptr) return false;
  if (bpf_map_lookup_elem(impl_->capture->processes_fd(), &pid, &entry) != 0) {
    return impl_->options.observe_unknown;
  }
  return entry.observe != 0;
}

olly_policy EbpfProvider::policy(SocketId sock) const noexcept {
  return impl_->policy.current(sock);
}

void EbpfProvider::wake() noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = ::write(impl_->wake_fd.get(), &one, sizeof one);
}

void EbpfProvider::skip_until(SocketId sock, Direction direction, std::uint64_t position) noexcept {
  impl_->policy.skip_until(sock, direction, position);
}
void EbpfProvider::limit_copy(SocketId sock, std::uint32_t bytes) noexcept {
  impl_->policy.limit_copy(sock, bytes);
}
void EbpfProvider::quiet(SocketId sock) noexcept { impl_->policy.quiet(sock); }
void EbpfProvider::forget(SocketId sock) noexcept { impl_->policy.forget(sock); }

void EbpfProvider::set_process(std::uint32_t pid, const ProcessVerdict& verdict) noexcept {
  if (impl_->capture == nullptr) return;
  const bool before = observed(pid);
  const olly_process entry{verdict.observe ? 1u : 0u, verdict.goid_offset};
  if (bpf_map_update_elem(impl_->capture->processes_fd(), &pid, &entry, BPF_ANY) != 0) {
    log::debug("verdict on process {} not kept: {}", pid, std::strerror(errno));
    return;
  }
  // Verdicts that sockets have cached are of the past.
  __atomic_fetch_add(&impl_->capture->control().generation, 1, __ATOMIC_RELEASE);
  // While it was not observed, its libraries were passed over.
  if (impl_->tls && verdict.observe && !before) impl_->tls->scan_process(pid);
}

}  // namespace olly
