// Processes, connections and exchanges for tests of the Processor, without any bytes.
#pragma once

#include <gtest/gtest.h>

#include <map>

#include "traces/processor.h"

namespace olly {
namespace {

struct Kept {
  TraceId trace;
  SpanId id, parent;
  SpanKind kind;
  std::string name, method, incomplete;
  Nanos start, end;
  std::uint32_t flags;
  double cpu = -1, blocked = -1;
};

class Collect final : public SpanSink {
 public:
  void emit(const Span& s) noexcept override {
    Kept k{s.trace_id, s.span_id, s.parent_id,  s.kind,     std::string(s.name),
           "",         "",        s.start_unix, s.end_unix, s.flags};
    for (const Attribute& a : s.attributes->items()) {
      if (a.key == kLinkMethod) k.method = s.attributes->string(a);
      if (a.key == kIncomplete) k.incomplete = s.attributes->string(a);
      if (a.key == kTimeCpu) k.cpu = a.float64;
      if (a.key == kTimeBlocked) k.blocked = a.float64;
    }
    spans.push_back(k);
  }
  const Kept* find(std::string_view name) const {
    for (const Kept& k : spans) {
      if (k.name == name) return &k;
    }
    return nullptr;
  }
  std::vector<Kept> spans;
};

// A little world: processes, connections and a clock in milliseconds.
class World : public ::testing::Test {
 protected:
  ProcessPtr process(std::uint32_t pid, Runtime runtime = Runtime::unknown) {
    auto p = std::make_shared<Process>();
    p->pid = pid;
    p->service = "svc" + std::to_string(pid);
    p->runtime = runtime;
    auto r = std::make_shared<Resource>();
    r->service_name = p->service;
    p->resource = r;
    return p;
  }
  Connection& connection(SocketId id, Role role, ProcessPtr p, ConnectionIdentity identity = {}) {
    Connection& c = connections_[id];
    c.id = id;
    c.role = role;
    c.family = Family::inet;
    c.process = std::move(p);
    c.identity = identity;
    processor.opened(c);
    return c;
  }
  static IoMark mark(double ms, std::uint32_t tid, bool nonblocking = false, std::uint64_t ec = 0) {
    return {static_cast<Nanos>(ms * 1e6), tid, ec, 0, 0, nonblocking};
  }
  void event(Connection& c, Direction d, const IoMark& m, Exchange* current) {
    IoEvent e;
    e.time = m.time;
    e.task = {c.process->pid, m.tid, m.ec, m.cpu, m.runq};
    e.sock = c.id;
    e.direction = d;
    e.length = 10;
    e.nonblocking = m.nonblocking;
    processor.activity(c, e, current);
  }
  Exchange* start(Connection& c, std::string_view name, const IoMark& m,
                  const TraceParent& header = {}, std::uint64_t position = 0) {
    const Side side = c.role == Role::inbound ? Side::server : Side::client;
    Exchange* e = processor.begin(c, side, position, m);
    if (!e) return nullptr;
    e->name = e->attributes.add_text(name);
    e->request_last = m;
    e->trace_parent = header;
    processor.request(*e);
    event(c, side == Side::server ? Direction::recv : Direction::send, m, e);
    return e;
  }
  void end(Connection& c, Exchange* e, const IoMark& m) {
    const bool server = e->side == Side::server;
    e->response_first = e->response_last = m;
    processor.finish(e);
    event(c, server ? Direction::send : Direction::recv, m, nullptr);
  }
  void connect(Connection& c, const IoMark& m) {
    ConnectEvent e;
    e.time = m.time;
    e.task = {c.process->pid, m.tid, 0, m.cpu, m.runq};
    e.sock = c.id;
    processor.connecting(e);
  }
  std::uint64_t unlinked(std::string_view service, std::string_view cause) {
    return metrics
        .counter("olly_unlinked_total", "",
                 {{"service", std::string(service)}, {"cause", std::string(cause)}})
        .value();
  }
  std::uint64_t links(std::string_view method) {
    return metrics.counter("olly_links_total", "", {{"method", std::string(method)}}).value();
  }

  std::map<SocketId, Connection> connections_;
  Collect out;
  MetricRegistry metrics;
  ProcessorOptions options_;
  Processor processor{options_, out, metrics};
};

}  // namespace
}  // namespace olly
