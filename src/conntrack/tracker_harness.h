// For the Tracker's tests: one connection that is driven by hand, and what comes out of it.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "conntrack/tracker.h"
#include "traces/semconv.h"

namespace olly::conntrack {

struct FakePolicy : CapturePolicy {
  void skip_until(SocketId, Direction d, std::uint64_t position) noexcept override {
    skipped_to[index(d)] = position;
  }
  void limit_copy(SocketId, std::uint32_t n) noexcept override { limit = n; }
  void quiet(SocketId) noexcept override { ++quiets; }
  void forget(SocketId) noexcept override {}
  std::array<std::uint64_t, 2> skipped_to{};
  std::uint32_t limit = 0;
  int quiets = 0;
};

struct FakeProcesses : ProcessLookup {
  ProcessPtr process(std::uint32_t pid) noexcept override {
    auto p = std::make_shared<Process>();
    p->pid = pid;
    p->observed = pid != 666;
    return p;
  }
};

struct Done {
  Side side;
  std::string name;
  std::map<std::string, std::string> text;
  std::map<std::string, std::int64_t> number;
  StatusCode status;
  std::string incomplete;
  std::uint64_t position;
  Nanos begin, end;
  TraceParent trace_parent;
  int status_code() const {
    const auto it = number.find("http.response.status_code");
    return it == number.end() ? -1 : static_cast<int>(it->second);
  }
  std::string target() const {
    const auto path = text.find("url.path");
    return path == text.end() ? text.at("url.full") : path->second;
  }
};

struct FakeSink : ExchangeSink {
  Exchange* begin(const Connection&, Side side, std::uint64_t position,
                  const IoMark&) noexcept override {
    Exchange* x = std::make_unique<Exchange>().release();
    x->side = side;
    x->position = position;
    ++open;
    return x;
  }
  void request(Exchange&) noexcept override { ++requests; }
  void finish(Exchange* x) noexcept override {
    Done d;
    d.side = x->side;
    d.name = x->attributes.text(x->name);
    for (const Attribute& a : x->attributes.items()) {
      EXPECT_FALSE(d.text.contains(std::string(a.key)) || d.number.contains(std::string(a.key)));
      if (a.type == AttributeType::string)
        d.text[std::string(a.key)] = x->attributes.string(a);
      else
        d.number[std::string(a.key)] = a.int64;
    }
    d.status = x->status;
    d.incomplete = x->incomplete;
    d.position = x->position;
    d.begin = x->request_first.time;
    d.end = x->response_last.time;
    d.trace_parent = x->trace_parent;
    done.push_back(d);
    --open;
    delete x;
  }
  void activity(const Connection&, const IoEvent&, Exchange*) noexcept override { ++activities; }
  void connecting(const ConnectEvent&) noexcept override {}
  void opened(const Connection&) noexcept override { ++opens; }
  void closed(const Connection&, Nanos) noexcept override { ++closes; }
  std::vector<Done> done;
  int open = 0, requests = 0, opens = 0, closes = 0, activities = 0;
};

// One connection, driven by hand. After every event the bytes must add up.
struct Harness {
  explicit Harness(TrackerOptions options = {})
      : tracker(std::move(options), policy, processes, sink, metrics) {}
  ~Harness() {
    if (!stopped) close();
    EXPECT_EQ(sink.open, 0);
    EXPECT_EQ(sink.opens, sink.closes);
  }

  void open(Role role = Role::inbound, std::uint64_t recv = 0, std::uint64_t send = 0) {
    OpenEvent e;
    e.time = now;
    e.sock = 1;
    e.role = role;
    e.task.pid = opener;
    e.local = {Family::inet, 8080, {10, 0, 0, 1}};
    e.remote = {Family::inet, 51000, {10, 0, 0, 9}};
    e.identity = identity;
    e.recv_pos = recv;
    e.send_pos = send;
    at = {recv, send};
    tracker.on_open(e);
  }
  void move(Direction d, std::string_view text, std::uint64_t length, std::uint32_t pid = 100) {
    now += kMillisecond;
    IoEvent e;
    e.time = now;
    e.sock = 1;
    e.task.pid = pid;
    e.task.tid = 7;
    e.direction = d;
    e.position = at[index(d)];
    e.length = static_cast<std::uint32_t>(length);
    e.payload = as_bytes(text);
    at[index(d)] += length;
    tracker.on_io(e);
    EXPECT_TRUE(tracker.check_conservation());
  }
  void recv(std::string_view text) { move(Direction::recv, text, text.size()); }
  void send(std::string_view text) { move(Direction::send, text, text.size()); }
  void lose(Direction d, std::uint64_t n) { at[index(d)] += n; }
  void advance(Nanos by) {
    now += by;
    tracker.on_advance(now);
    EXPECT_TRUE(tracker.check_conservation());
  }
  void eof() {
    IoEvent e;
    now += kMillisecond;
    e.time = now;
    e.sock = 1;
    e.task.pid = 100;
    e.position = at[0];
    e.eof = true;
    tracker.on_io(e);
    EXPECT_TRUE(tracker.check_conservation());
  }
  void close(std::uint32_t error = 0) {
    stopped = true;
    CloseEvent e;
    now += kMillisecond;
    e.time = now;
    e.sock = 1;
    e.recv_pos = at[0];
    e.send_pos = at[1];
    e.positions_known = true;
    e.error = error;
    tracker.on_close(e);
    EXPECT_TRUE(tracker.check_conservation());
    EXPECT_EQ(tracker.bytes(Direction::recv).pending(), 0u);
    EXPECT_EQ(tracker.bytes(Direction::send).pending(), 0u);
  }
  std::uint64_t fate(Direction d, reassembly::Fate f) const { return tracker.bytes(d).of(f); }

  FakePolicy policy;
  FakeProcesses processes;
  FakeSink sink;
  MetricRegistry metrics;
  Tracker tracker;
  Nanos now = kSecond;
  std::uint32_t opener = 100;
  ConnectionIdentity identity{11, 22};
  std::array<std::uint64_t, 2> at{};
  bool stopped = false;
};

inline constexpr std::string_view kGet = "GET /a?x=1 HTTP/1.1\r\nHost: shop:81\r\n\r\n";
inline constexpr std::string_view kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

}  // namespace olly::conntrack
