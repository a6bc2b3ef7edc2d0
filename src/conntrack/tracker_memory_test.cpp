// Connections that rest, age, and are thrown out.
#include "conntrack/tracker_harness.h"

namespace olly::conntrack {
namespace {

void open_and_serve(Harness& h, SocketId id) {
  OpenEvent e;
  e.task.pid = 100;
  e.local = {Family::inet, 80, {}};
  e.sock = id;
  e.time = ++h.now;
  h.tracker.on_open(e);
  IoEvent io;
  io.sock = id;
  io.task.pid = 100;
  io.time = h.now;
  io.length = static_cast<std::uint32_t>(kGet.size());
  io.payload = as_bytes(kGet);
  h.tracker.on_io(io);
  io.direction = Direction::send;
  io.length = static_cast<std::uint32_t>(kOk.size());
  io.payload = as_bytes(kOk);
  h.tracker.on_io(io);
}

TEST(Tracker, ManyIdleConnectionsStayInTheBudget) {
  TrackerOptions options;
  options.memory = 4 * 1024 * 1024;
  Harness h(options);
  constexpr SocketId kCount = 20'000;
  for (SocketId id = 10; id < 10 + kCount; ++id) open_and_serve(h, id);
  EXPECT_LE(h.tracker.memory_used(), options.memory);
  // No time has passed in which they could rest: they do under the budget's pressure.
  EXPECT_EQ(h.tracker.connections(), kCount);
  EXPECT_EQ(h.sink.done.size(), kCount);
  EXPECT_TRUE(h.tracker.check_conservation());
  h.stopped = true;
  for (SocketId id = 10; id < 10 + kCount; ++id) {
    CloseEvent close;
    close.sock = id;
    h.tracker.on_close(close);
  }
  EXPECT_EQ(h.tracker.connections(), 0u);
}

// What house rule 5 asks for, with the share that connections have of the default budget.
TEST(Tracker, HundredThousandIdleConnectionsFitTheDefaultBudget) {
  TrackerOptions options;
  options.memory = 40ull * 1024 * 1024 * 2 / 5;
  Harness h(options);
  constexpr SocketId kCount = 100'000;
  for (SocketId id = 10; id < 10 + kCount; ++id) {
    open_and_serve(h, id);
    ASSERT_LE(h.tracker.memory_used(), options.memory);
  }
  EXPECT_EQ(h.tracker.connections(), kCount);
  h.tracker.on_advance(h.now + 10 * kSecond);
  // What one costs, its share of the table included.
  EXPECT_LE(h.tracker.memory_used() / kCount, 167u);
  RecordProperty("bytes_per_idle_connection", std::to_string(h.tracker.memory_used() / kCount));
  // Every one of them goes on where it was.
  h.now += 10 * kSecond;
  for (SocketId id = 10; id < 10 + kCount; ++id) {
    IoEvent io;
    io.sock = id;
    io.task.pid = 100;
    io.time = ++h.now;
    io.position = kGet.size();
    io.length = static_cast<std::uint32_t>(kGet.size());
    io.payload = as_bytes(kGet);
    h.tracker.on_io(io);
    io.direction = Direction::send;
    io.position = kOk.size();
    io.length = static_cast<std::uint32_t>(kOk.size());
    io.payload = as_bytes(kOk);
    h.tracker.on_io(io);
  }
  EXPECT_EQ(h.sink.done.size(), 2 * kCount);
  EXPECT_EQ(h.tracker.connections(), kCount);
  EXPECT_LE(h.tracker.memory_used(), options.memory);
  EXPECT_TRUE(h.tracker.check_conservation());
  EXPECT_EQ(h.fate(Direction::recv, reassembly::Fate::parsed), 2 * kCount * kGet.size());
  h.stopped = true;
  for (SocketId id = 10; id < 10 + kCount; ++id) {
    CloseEvent close;
    close.sock = id;
    h.tracker.on_close(close);
  }
  EXPECT_EQ(h.tracker.connections(), 0u);
  EXPECT_EQ(h.sink.opens, h.sink.closes);
}

// A connection that rests between any two of its calls tells the same as one that does not.
TEST(Tracker, RestChangesNothing) {
  for (const bool rests : {false, true}) {
    for (const Role role : {Role::inbound, Role::outbound, Role::unknown}) {
      for (const std::uint64_t joined : {0u, 1000u}) {  // seen from the start, or not
        Harness h;
        const auto pause = [&] { h.advance(rests ? 10 * kSecond : 0); };
        const Direction asks = role == Role::outbound ? Direction::send : Direction::recv;
        h.open(role, joined, joined);
        pause();
        const std::uint64_t fresh = h.tracker.memory_used();
        for (int n = 0; n < 3; ++n) {
          h.move(asks, kGet.substr(0, 20), 20);
          pause();
          h.move(asks, kGet.substr(20), kGet.size() - 20);
          pause();
          h.move(opposite(asks), kOk, kOk.size());
          pause();
          if (rests) {
            EXPECT_EQ(h.tracker.memory_used(), fresh);
          }
        }
        // Unseen bytes of a message, then the end.
        h.lose(asks, 40);
        h.close();
        ASSERT_EQ(h.sink.done.size(), 3u) << rests << static_cast<int>(role) << joined;
        for (int n = 0; n < 3; ++n) {
          const Done& d = h.sink.done[static_cast<std::size_t>(n)];
          EXPECT_EQ(d.side, asks == Direction::recv ? Side::server : Side::client);
          EXPECT_EQ(d.status_code(), 200);
          EXPECT_EQ(d.incomplete, "");
          EXPECT_EQ(d.position, joined + static_cast<std::uint64_t>(n) * kGet.size());
        }
        EXPECT_EQ(h.fate(asks, reassembly::Fate::gap), 40u);
        EXPECT_EQ(h.fate(asks, reassembly::Fate::parsed), 3 * kGet.size());
        EXPECT_EQ(h.fate(opposite(asks), reassembly::Fate::parsed) +
                      h.fate(opposite(asks), reassembly::Fate::skipped),
                  3 * kOk.size());
      }
    }
  }
}

// The same for Redis: the database that SELECT named is still known, and a transaction does not
// rest.
TEST(Tracker, RedisRestsAndKnowsItsDatabase) {
  for (const bool rests : {false, true}) {
    Harness h;
    const auto pause = [&] { h.advance(rests ? 10 * kSecond : 0); };
    h.open();
    pause();
    const std::uint64_t fresh = h.tracker.memory_used();
    const auto ask = [&](std::string_view command, std::string_view reply) {
      h.recv(command);
      pause();
      h.send(reply);
      pause();
    };
    ask("*2\r\n$6\r\nSELECT\r\n$1\r\n7\r\n", "+OK\r\n");
    if (rests) {
      EXPECT_EQ(h.tracker.memory_used(), fresh);
    }
    ask("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "$1\r\nv\r\n");
    ask("*1\r\n$5\r\nMULTI\r\n", "+OK\r\n");
    if (rests) {
      EXPECT_GT(h.tracker.memory_used(), fresh);
    }
    ask("*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n", "+QUEUED\r\n");
    ask("*1\r\n$4\r\nEXEC\r\n", "*1\r\n:1\r\n");
    if (rests) {
      EXPECT_EQ(h.tracker.memory_used(), fresh);
    }
    h.close();
    ASSERT_EQ(h.sink.done.size(), 5u) << rests;
    for (const Done& d : h.sink.done) EXPECT_EQ(d.incomplete, "");
    EXPECT_EQ(h.sink.done[1].text.at("db.namespace"), "7");
  }
}

TEST(Tracker, NothingRestsThatIsUnderWay) {
  Harness h;
  h.open();
  h.recv(kGet);
  h.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc");
  const std::uint64_t busy = h.tracker.memory_used();
  h.advance(30 * kSecond);
  EXPECT_EQ(h.tracker.memory_used(), busy);
  h.send("def");
  h.recv(kGet.substr(0, 20));  // waits in a buffer
  h.advance(30 * kSecond);
  EXPECT_GE(h.tracker.memory_used(), busy);
  h.recv(kGet.substr(20));
  h.send(kOk);
  h.advance(30 * kSecond);
  EXPECT_LT(h.tracker.memory_used(), busy);
  ASSERT_EQ(h.sink.done.size(), 2u);
  h.recv("nonsense, nonsense\r\n\r\n");
  h.close();
}

TEST(Tracker, RestedConnectionsAreEvictedAndForgotten) {
  TrackerOptions options;
  options.memory = 100 * 1024;
  Harness h(options);
  for (SocketId id = 10; id < 2010; ++id) open_and_serve(h, id);
  EXPECT_LE(h.tracker.memory_used(), options.memory);
  EXPECT_LT(h.tracker.connections(), 700u);
  EXPECT_GT(h.tracker.connections(), 400u);
  EXPECT_EQ(h.sink.done.size(), 2000u);
  // Nothing waited: nothing was lost with them.
  EXPECT_EQ(h.fate(Direction::recv, reassembly::Fate::evicted), 0u);
  EXPECT_TRUE(h.tracker.check_conservation());
  h.advance(100 * kSecond);
  h.stopped = true;
  for (SocketId id = 10; id < 2010; ++id) {
    CloseEvent close;
    close.sock = id;
    close.positions_known = true;
    close.recv_pos = kGet.size();
    close.send_pos = kOk.size() + 7;
    h.tracker.on_close(close);
  }
  EXPECT_EQ(h.tracker.connections(), 0u);
  EXPECT_EQ(h.sink.opens, h.sink.closes);
  EXPECT_TRUE(h.tracker.check_conservation());
}

}  // namespace
}  // namespace olly::conntrack
