// The pipeline behind a provider, on one core: recorded events of a real nginx under keep-alive
// load (tests/bench/data/nginx_keep_alive.olly) through connections, reassembly, HTTP, the context
// engine, span building, batching and the OTLP/Protobuf encoder. What is left out is the reading of
// the ring buffers before it and the network after it.
//
//   bench_pipeline [RECORDING] [--seconds N] [--clones N]
//   bench_pipeline --protocols [--seconds N]
//
// With --protocols: connections, reassembly and the parser alone, for a recording of each protocol
// (kProtocols: one line each): CPU per exchange, bytes per second, allocations per exchange. Where
// a protocol has a beginning (a login, a preface), each round opens its connections anew and closes
// them: what that takes is in the figures.
//
// Each round plays the recording once per clone: the same calls on other sockets, later in time, at
// the positions that a connection kept alive has reached by then. "server": only nginx is observed,
// so an exchange is seen once and makes one span; this is what counts for the aim. "both ends": wrk
// is observed too, so an exchange is seen twice, makes two spans, and is linked.
//
// Output: key=value lines, times in ns of CPU, the best of the rounds of the time given.
#include <fmt/format.h>
#include <time.h>
#include <cstdlib>
#include <cstring>
#include <new>

#include "conntrack/tracker.h"
#include "export/batch.h"
#include "export/otlp/encoder.h"
#include "hook/replay/provider.h"
#include "hook/replay/recording.h"
#include "traces/processor.h"

namespace {
std::uint64_t allocations = 0;
void* counted(std::size_t size) {
  ++allocations;
  void* p = std::malloc(size);
  if (p == nullptr) std::abort();
  return p;
}
}  // namespace

void* operator new(std::size_t size) { return counted(size); }
void* operator new[](std::size_t size) { return counted(size); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }

namespace {

using namespace olly;

// Of this thread: other programs on the machine take time, but no CPU of ours.
std::uint64_t cpu_time() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * kSecond + static_cast<std::uint64_t>(t.tv_nsec);
}

struct Policy final : CapturePolicy {
  void skip_until(SocketId, Direction, std::uint64_t) noexcept override {}
  void limit_copy(SocketId, std::uint32_t) noexcept override {}
  void quiet(SocketId) noexcept override {}
  void forget(SocketId) noexcept override {}
};

// The protocol's work alone: exchanges are filled in and thrown away.
struct NoTraces final : ExchangeSink {
  std::vector<std::unique_ptr<Exchange>> all;
  std::vector<Exchange*> free;
  std::uint64_t finished = 0;
  Exchange* begin(const Connection& c, Side side, std::uint64_t, const IoMark&) noexcept override {
    if (free.empty()) free.push_back(all.emplace_back(std::make_unique<Exchange>()).get());
    Exchange* x = free.back();
    free.pop_back();
    x->side = side;
    x->process = c.process;
    return x;
  }
  void request(Exchange&) noexcept override {}
  void finish(Exchange* x) noexcept override {
    ++finished;
    x->attributes.clear();
    free.push_back(x);
  }
  void activity(const Connection&, const IoEvent&, Exchange*) noexcept override {}
  void connecting(const ConnectEvent&) noexcept override {}
  void opened(const Connection&) noexcept override {}
  void closed(const Connection&, Nanos) noexcept override {}
};

struct NoSpans final : SpanSink {
  std::uint64_t spans = 0;
  void emit(const Span&) noexcept override { ++spans; }
};

enum class Stage { parse, traces, batch, encode };

struct Workload {
  replay::Recording recording;
  replay::ReplayProvider processes;
  std::vector<OpenEvent> opens;  // by conn
  std::vector<IoEvent> calls;
  std::vector<std::size_t> conn_of;                 // by call
  std::vector<std::array<std::uint64_t, 2>> moved;  // by conn: bytes per play
  // Per play, seen at a server. As many as calls that read: what the HTTP recording holds.
  std::size_t exchanges = 0;
  std::uint64_t bytes = 0;  // per play
  Nanos length = 0;
  Nanos cpu = 0, runq = 0;

  Workload(replay::Recording loaded, bool both)
      : recording(std::move(loaded)), processes(recording, {}) {
    moved.resize(recording.conns.size());
    opens.resize(recording.conns.size());
    Nanos last = 0;
    Nanos first_cpu = 0;
    Nanos first_runq = 0;
    for (const replay::Step& s : recording.steps) {
      const replay::ConnLine& c = recording.conns[s.subject];
      if (!both && c.role != Role::inbound) continue;
      if (s.kind == replay::Step::Kind::open) {
        OpenEvent& o = opens[s.subject];
        o.time = replay::kStart;
        o.task = s.task;
        o.role = c.role;
        o.local = c.local;
        o.remote = c.remote;
        o.identity = c.identity;
      }
      if (s.kind != replay::Step::Kind::io) continue;
      std::uint64_t& at = moved[s.subject][s.direction == Direction::send ? 1 : 0];
      IoEvent e;
      e.time = replay::kStart + s.at;
      e.task = s.task;
      e.sock = s.subject + 1;
      e.direction = s.direction;
      e.position = at;
      e.length = s.length;
      e.payload_offset = s.payload_offset;
      e.payload = as_bytes(s.payload);
      e.nonblocking = s.nonblocking;
      e.eof = s.eof;
      at += s.length;
      bytes += s.length;
      if (calls.empty()) first_cpu = e.task.cpu, first_runq = e.task.runq;
      cpu = std::max(cpu, e.task.cpu);
      runq = std::max(runq, e.task.runq);
      last = s.at;
      if (c.role == Role::inbound && s.direction == Direction::recv) ++exchanges;
      calls.push_back(e);
      conn_of.push_back(s.subject);
    }
    length = last + kMicrosecond;
    cpu += 1 - std::min(first_cpu, cpu);
    runq += 1 - std::min(first_runq, runq);
  }
};

struct Figures {
  double ns = 0;  // per exchange
  double allocations = 0;
  double bytes = 0;  // of Protobuf per span
};

class Pipeline {
 public:
  // `anew`: each play is of new connections.
  Pipeline(Workload& w, Stage stage, std::size_t clones, bool anew = false)
      : w_(w),
        stage_(stage),
        clones_(clones),
        anew_(anew),
        batcher_([this](std::shared_ptr<const SpanBatch> b) { deliver(*b); },
                 metrics_.counter("dropped", "")),
        processor_({}, stage >= Stage::batch ? static_cast<SpanSink&>(batcher_) : no_spans_,
                   metrics_),
        tracker_(options(), policy_, w.processes,
                 stage == Stage::parse ? static_cast<ExchangeSink&>(no_traces_) : processor_,
                 metrics_) {
    for (std::size_t clone = 0; !anew_ && clone < clones_; ++clone) open(clone, 0);
  }

  // Returns nanoseconds of CPU.
  std::uint64_t round() {
    const std::uint64_t begin = cpu_time();
    for (std::size_t clone = 0; clone < clones_; ++clone) play(clone);
    ++rounds_;
    batcher_.flush();
    return cpu_time() - begin;
  }
  std::uint64_t spans() const {
    return stage_ == Stage::parse    ? no_traces_.finished
           : stage_ == Stage::traces ? no_spans_.spans
                                     : delivered_;
  }
  std::uint64_t encoded() const { return encoded_; }

 private:
  static conntrack::TrackerOptions options() { return {}; }
  SocketId socket(SocketId sock, std::size_t clone) const { return sock + clone * w_.opens.size(); }
  void open(std::size_t clone, Nanos shift_by) {
    for (std::size_t c = 0; c < w_.opens.size(); ++c) {
      OpenEvent o = w_.opens[c];
      if (o.time == 0) continue;
      o.time += shift_by;
      o.sock = socket(c + 1, clone);
      const auto shift = static_cast<std::uint32_t>(clone) * 7919u;
      o.identity.out_first += shift;
      o.identity.in_first += shift;
      o.remote.port = static_cast<std::uint16_t>(o.remote.port + clone);
      tracker_.on_open(o);
    }
  }
  void close(std::size_t clone, Nanos time) {
    for (std::size_t c = 0; c < w_.opens.size(); ++c) {
      if (w_.opens[c].time == 0) continue;
      CloseEvent e;
      e.time = time;
      e.sock = socket(c + 1, clone);
      tracker_.on_close(e);
    }
  }
  void play(std::size_t clone) {
    const Nanos shift = plays_ * w_.length;
    if (anew_) open(clone, shift);
    Nanos polled = 0;
    for (std::size_t i = 0; i < w_.calls.size(); ++i) {
      IoEvent e = w_.calls[i];
      e.sock = socket(e.sock, clone);
      e.time += shift;
      e.task.cpu += plays_ * w_.cpu;
      e.task.runq += plays_ * w_.runq;
      if (!anew_) {
        e.position += rounds_ * w_.moved[w_.conn_of[i]][e.direction == Direction::send ? 1 : 0];
      }
      tracker_.on_io(e);
      // The ring reader polls about once in a millisecond.
      if (e.time >= polled + kMillisecond) {
        polled = e.time;
        tracker_.on_advance(e.time);
        processor_.advance(e.time);
        batcher_.advance(e.time);
      }
    }
    ++plays_;
    if (anew_) close(clone, replay::kStart + plays_ * w_.length);
  }
  void deliver(const SpanBatch& batch) {
    delivered_ += batch.spans().size();
    if (stage_ != Stage::encode) return;
    otlp::for_each_request(batch, order_, [&](std::span<const std::uint32_t> spans) {
      request_.clear();
      otlp::encode_protobuf(batch, spans, request_);
      encoded_ += request_.size();
    });
  }

  Workload& w_;
  Stage stage_;
  std::size_t clones_;
  bool anew_;
  std::uint64_t rounds_ = 0, plays_ = 0, delivered_ = 0, encoded_ = 0;
  MetricRegistry metrics_;
  Policy policy_;
  NoSpans no_spans_;
  NoTraces no_traces_;
  std::vector<std::uint32_t> order_;
  ByteBuffer request_;
  Batcher batcher_;
  Processor processor_;
  conntrack::Tracker tracker_;
};

Figures measure(Workload& w, Stage stage, std::size_t clones, double seconds, bool anew = false) {
  Pipeline pipeline(w, stage, clones, anew);
  for (int i = 0; i < 3; ++i) pipeline.round();  // pools and tables fill
  const double per_round = static_cast<double>(w.exchanges * clones);
  Figures f;
  f.ns = 1e12;
  const std::uint64_t before = allocations;
  const std::uint64_t spans = pipeline.spans();
  const std::uint64_t encoded = pipeline.encoded();
  double spent = 0;
  std::uint64_t rounds = 0;
  while (spent < seconds * 1e9) {
    const auto ns = static_cast<double>(pipeline.round());
    f.ns = std::min(f.ns, ns / per_round);
    spent += ns;
    ++rounds;
  }
  f.allocations =
      static_cast<double>(allocations - before) / (per_round * static_cast<double>(rounds));
  const auto made = static_cast<double>(pipeline.spans() - spans);
  f.bytes = static_cast<double>(pipeline.encoded() - encoded) / std::max(made, 1.0);
  std::size_t ends = 0;
  for (const OpenEvent& o : w.opens) ends += o.time != 0 ? 1 : 0;
  const double expected = per_round * static_cast<double>(rounds) *
                          (stage != Stage::parse && ends == w.opens.size() ? 2 : 1);
  if (made < 0.98 * expected || made > 1.02 * expected) {
    fmt::print(stderr, "bench_pipeline: {} spans where {} were due\n", made, expected);
    std::exit(1);
  }
  return f;
}

// A recording per protocol, of a server's side.
struct ProtocolRecording {
  const char* name;
  const char* file;  // in tests/bench/data
  bool anew = false;
};
constexpr ProtocolRecording kProtocols[] = {
    {"http", "nginx_keep_alive.olly"},
    {"redis", "redis.olly"},
    {"postgresql", "postgresql.olly", true},
    {"mysql", "mysql.olly", true},
    {"mongodb", "mongodb.olly", true},
    {"http2", "http2.olly", true},
    {"grpc", "grpc.olly", true},
};

replay::Recording load(const std::string& file) {
  auto loaded = replay::load(file);
  if (!loaded) {
    fmt::print(stderr, "{}\n", loaded.error().message);
    std::exit(1);
  }
  return std::move(*loaded);
}

int bench_protocols(double seconds) {
  constexpr std::size_t kClones = 16;
  for (const ProtocolRecording& p : kProtocols) {
    Workload w(load(std::string(OLLY_SOURCE_DIR "/tests/bench/data/") + p.file), false);
    Pipeline counting(w, Stage::parse, 1, p.anew);
    counting.round();
    counting.round();
    // What the second play made: in the first, connections begin.
    const std::uint64_t before = counting.spans();
    counting.round();
    w.exchanges = counting.spans() - before;
    const Figures f = measure(w, Stage::parse, kClones, seconds, p.anew);
    const double bytes = static_cast<double>(w.bytes) / static_cast<double>(w.exchanges);
    fmt::print("{}_exchanges_in_recording={}\n", p.name, w.exchanges);
    fmt::print("{}_ns_per_exchange={:.0f}\n", p.name, f.ns);
    fmt::print("{}_mb_per_second={:.0f}\n", p.name, bytes / f.ns * 1e3);
    fmt::print("{}_allocations_per_exchange={:.3f}\n", p.name, f.allocations);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::string file = OLLY_SOURCE_DIR "/tests/bench/data/nginx_keep_alive.olly";
  double seconds = 1;
  std::size_t clones = 64;
  bool protocols = false;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
      seconds = std::atof(argv[++i]);
    } else if (std::strcmp(argv[i], "--clones") == 0 && i + 1 < argc) {
      clones = static_cast<std::size_t>(std::max(1, std::atoi(argv[++i])));
    } else if (std::strcmp(argv[i], "--protocols") == 0) {
      protocols = true;
    } else {
      file = argv[i];
    }
  }
  if (protocols) return bench_protocols(seconds);
  Workload server(load(file), false);
  const Figures parse = measure(server, Stage::parse, clones, seconds);
  const Figures traces = measure(server, Stage::traces, clones, seconds);
  const Figures batch = measure(server, Stage::batch, clones, seconds);
  const Figures all = measure(server, Stage::encode, clones, seconds);
  Workload linked(load(file), true);
  const Figures both = measure(linked, Stage::encode, clones, seconds);
  fmt::print("calls_per_exchange={:.2f}\n",
             static_cast<double>(server.calls.size()) / static_cast<double>(server.exchanges));
  fmt::print("ns_connections_and_http={:.0f}\n", parse.ns);
  fmt::print("ns_with_traces={:.0f}\n", traces.ns);
  fmt::print("ns_with_batching={:.0f}\n", batch.ns);
  fmt::print("ns_per_exchange={:.0f}\n", all.ns);
  fmt::print("allocations_per_exchange={:.3f}\n", all.allocations);
  fmt::print("otlp_bytes_per_span={:.0f}\n", all.bytes);
  fmt::print("exchanges_per_second={:.0f}\n", 1e9 / all.ns);
  fmt::print("both_ends_ns_per_exchange={:.0f}\n", both.ns);
  fmt::print("both_ends_allocations_per_exchange={:.3f}\n", both.allocations);
  fmt::print("both_ends_exchanges_per_second={:.0f}\n", 1e9 / both.ns);
  return 0;
}
