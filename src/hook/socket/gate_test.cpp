// What programs say about sockets, and what is made of it.
#include "hook/socket/gate.h"

#include <gtest/gtest.h>

#include <vector>

namespace olly::preload {
namespace {

Endpoint at(std::uint8_t last, std::uint16_t port) {
  Endpoint e;
  e.family = Family::inet;
  e.port = port;
  e.addr = {127, 0, 0, last};
  return e;
}

class Kept final : public EventSink {
 public:
  void on_process(const ProcessEvent&) noexcept override {}
  void on_connect(const ConnectEvent& e) noexcept override { connects.push_back(e); }
  void on_open(const OpenEvent& e) noexcept override { opens.push_back(e); }
  void on_io(const IoEvent& e) noexcept override { ios.push_back(e); }
  void on_close(const CloseEvent& e) noexcept override { closes.push_back(e); }
  void on_tls(const TlsEvent& e) noexcept override { tls.push_back(e); }
  void on_advance(Nanos) noexcept override {}
  std::vector<TlsEvent> tls;
  std::vector<ConnectEvent> connects;
  std::vector<OpenEvent> opens;
  std::vector<IoEvent> ios;
  std::vector<CloseEvent> closes;
};

class GateTest : public testing::Test {
 protected:
  GateTest() {
    client.pid = 10;
    server.pid = 20;
    client.uid = server.uid = 1000;
    client.netns = server.netns = 5;
  }
  void open(Program& p, SocketId cookie, const Endpoint& local, const Endpoint& remote,
            Nanos time = 1) {
    OpenEvent e;
    e.time = time;
    e.sock = cookie;
    e.local = local;
    e.remote = remote;
    e.task.pid = 999;
    e.own = true;
    gate.enter(p, sink);
    gate.on_open(e);
  }
  void close(Program& p, SocketId cookie, Nanos time = 1) {
    CloseEvent e;
    e.time = time;
    e.sock = cookie;
    e.positions_known = true;
    gate.enter(p, sink);
    gate.on_close(e);
  }

  Gate gate{42};
  Kept sink;
  Program client, server;
};

TEST_F(GateTest, BothEndsHaveSwappedIdentities) {
  open(client, 1, at(1, 40000), at(1, 80));
  open(server, 2, at(1, 80), at(1, 40000));
  ASSERT_EQ(sink.opens.size(), 2u);
  EXPECT_TRUE(sink.opens[0].identity.known());
  EXPECT_EQ(sink.opens[0].identity, sink.opens[1].identity.peer());
  EXPECT_NE(sink.opens[0].identity, sink.opens[1].identity);
  EXPECT_NE(sink.opens[0].sock, sink.opens[1].sock);
}

TEST_F(GateTest, TlsIsOfSocketsThatWereOpened) {
  open(client, 1, at(1, 40000), at(1, 443));
  gate.on_tls({.time = 2,
               .sock = 1,
               .version = 0x0304,
               .cipher = 0x1301,
               .alpn = "h2",
               .server_name = "a"});
  ASSERT_EQ(sink.tls.size(), 1u);
  EXPECT_EQ(sink.tls[0].sock, sink.opens[0].sock);
  EXPECT_EQ(sink.tls[0].version, 0x0304);
  gate.on_tls({.time = 3, .sock = 77});
  EXPECT_EQ(sink.tls.size(), 1u);
  EXPECT_EQ(gate.refused(), 1u);
}

TEST_F(GateTest, PlaintextHasAPolicyOfItsOwn) {
  open(client, 1, at(1, 40000), at(1, 443));
  const SocketId sock = sink.opens[0].sock;
  std::uint64_t cookie = 0;
  EXPECT_EQ(gate.holder(sock, cookie), &client);
  EXPECT_EQ(cookie, 1u);
  EXPECT_EQ(gate.holder(plaintext_layer(sock), cookie), &client);
  EXPECT_EQ(cookie, plaintext_layer(1));
  close(client, 1);
  EXPECT_EQ(gate.holder(plaintext_layer(sock), cookie), nullptr);
}

TEST_F(GateTest, WhatAProgramSaysOfItselfIsNotBelieved) {
  open(client, 1, at(1, 40000), at(1, 80));
  EXPECT_EQ(sink.opens[0].task.pid, 10u);
  EXPECT_FALSE(sink.opens[0].own);
  Program stranger;
  stranger.pid = 30;
  stranger.uid = 1001;
  open(stranger, 1, at(1, 40001), at(1, 80));
  EXPECT_NE(sink.opens[1].sock, sink.opens[0].sock) << "another user's cookie names another socket";
  IoEvent io;
  io.sock = 7;
  gate.on_io(io);
  EXPECT_TRUE(sink.ios.empty()) << "a socket that it never opened";
  EXPECT_EQ(gate.refused(), 1u);
}

TEST_F(GateTest, PortsThatAreUsedAgainMakeNewIdentities) {
  open(client, 1, at(1, 40000), at(1, 80), 1);
  close(client, 1, 10);
  open(client, 2, at(1, 40000), at(1, 80), 20);
  EXPECT_NE(sink.opens[0].identity, sink.opens[1].identity);
}

TEST_F(GateTest, TheOtherEndMayBeALittleLate) {
  open(server, 2, at(1, 80), at(1, 40000), 1);
  close(server, 2, 10);
  open(client, 1, at(1, 40000), at(1, 80), 10 + kMillisecond);
  EXPECT_EQ(sink.opens[0].identity, sink.opens[1].identity.peer());
  close(client, 1, 20 + kMillisecond);
  gate.on_advance(10 * kSecond);
  open(server, 3, at(1, 80), at(1, 40000), 10 * kSecond);
  EXPECT_NE(sink.opens[2].identity, sink.opens[0].identity);
}

TEST_F(GateTest, TooLateIsAnotherConnection) {
  open(server, 2, at(1, 80), at(1, 40000), 1);
  close(server, 2, 10);
  open(client, 1, at(1, 40000), at(1, 80), 10 + Identities::kGrace);
  EXPECT_NE(sink.opens[0].identity, sink.opens[1].identity.peer());
}

TEST_F(GateTest, LoopbackCountsWithinItsNetwork) {
  server.netns = 6;
  open(client, 1, at(1, 40000), at(1, 80));
  open(server, 2, at(1, 80), at(1, 40000));
  EXPECT_NE(sink.opens[0].identity, sink.opens[1].identity.peer());
}

TEST_F(GateTest, ASocketOfTwoProcessesClosesOnce) {
  Program child;
  child.pid = 21;
  child.uid = 1000;
  open(server, 2, at(1, 80), at(1, 40000));
  open(child, 2, at(1, 80), at(1, 40000));
  EXPECT_EQ(sink.opens[0].sock, sink.opens[1].sock);
  EXPECT_EQ(sink.opens[0].identity, sink.opens[1].identity);
  close(server, 2);
  EXPECT_TRUE(sink.closes.empty());
  std::uint64_t cookie = 0;
  EXPECT_EQ(gate.holder(sink.opens[0].sock, cookie), &child);
  gate.leave(child, sink, 5);
  ASSERT_EQ(sink.closes.size(), 1u);
  EXPECT_FALSE(sink.closes[0].positions_known);
  EXPECT_EQ(gate.sockets(), 0u);
  EXPECT_EQ(gate.holder(sink.opens[0].sock, cookie), nullptr);
}

TEST_F(GateTest, UnixSocketsAndThoseWithoutPeersHaveNoIdentity) {
  Endpoint none;
  none.family = Family::unix_stream;
  open(client, 1, none, none);
  open(client, 2, at(1, 80), Endpoint{});
  open(client, 3, at(1, 80), at(1, 80));
  for (const OpenEvent& e : sink.opens) EXPECT_FALSE(e.identity.known());
}

// Beside the kernel.
class Kernel final : public KernelSockets {
 public:
  bool claim(SocketId cookie, Program&) noexcept override {
    if (cookie != known) return false;
    ++claims;
    return true;
  }
  void unclaim(SocketId cookie) noexcept override { unclaims += cookie == known; }
  bool observed(std::uint32_t) const noexcept override { return true; }
  SocketId known = 0;
  int claims = 0, unclaims = 0;
};

class BesideTheKernel : public GateTest {
 protected:
  void move(Program& p, SocketId cookie) {
    IoEvent e;
    e.sock = cookie;
    e.length = 1;
    beside.enter(p, sink);
    beside.on_io(e);
  }
  void say_open(Program& p, SocketId cookie) {
    OpenEvent e;
    e.sock = cookie;
    beside.enter(p, sink);
    beside.on_open(e);
  }
  Kernel kernel;
  Gate beside{42, &kernel};
};

TEST_F(BesideTheKernel, ASocketIsTheKernelsAndOnlyItsBytesAreThePrograms) {
  kernel.known = 7;
  beside.enter(client, sink);
  beside.on_connect({});
  say_open(client, 7);
  move(client, 7);
  EXPECT_TRUE(sink.opens.empty());
  EXPECT_TRUE(sink.connects.empty());
  ASSERT_EQ(sink.ios.size(), 1u);
  EXPECT_EQ(sink.ios[0].sock, 7u);
  EXPECT_EQ(sink.ios[0].task.pid, 10u);
  std::uint64_t cookie = 0;
  EXPECT_EQ(beside.holder(7, cookie), &client);
  CloseEvent closed;
  closed.sock = 7;
  beside.on_close(closed);
  EXPECT_TRUE(sink.closes.empty());
  EXPECT_EQ(kernel.unclaims, 1);
  EXPECT_EQ(beside.sockets(), 0u);
}

TEST_F(BesideTheKernel, WhatTheKernelDoesNotKnowIsLeftToIt) {
  std::vector<olly_policy> slots(16);
  client.policy = PolicyTable(slots, 100);
  kernel.known = 7;
  say_open(client, 8);
  move(client, 8);
  EXPECT_TRUE(sink.ios.empty());
  EXPECT_EQ(beside.refused(), 0u);
  EXPECT_EQ(slots[8].mode, OLLY_POLICY_QUIET);
  beside.leave(client, sink, 1);
  EXPECT_EQ(kernel.unclaims, 0);
}

TEST_F(BesideTheKernel, NoSocketIsCalledZero) {
  kernel.known = 0;
  say_open(client, 0);
  say_open(client, 0);
  move(client, 0);
  EXPECT_EQ(kernel.claims, 0);
  EXPECT_TRUE(sink.ios.empty());
  EXPECT_EQ(beside.sockets(), 0u);
}

TEST_F(BesideTheKernel, ASharedSocketIsTheKernelsAgainWhenNobodySpeaksOfIt) {
  kernel.known = 7;
  say_open(client, 7);
  say_open(server, 7);  // a child
  beside.leave(client, sink, 1);
  EXPECT_EQ(kernel.unclaims, 0);
  move(server, 7);
  EXPECT_EQ(sink.ios.size(), 1u);
  beside.leave(server, sink, 2);
  EXPECT_EQ(kernel.unclaims, 1);
  EXPECT_TRUE(sink.closes.empty());
}

}  // namespace
}  // namespace olly::preload
