// Cases that need more than "run it and compare": policy, selection, sockets older than the agent,
// full rings, many connections, concurrent writers, the agent's own sockets.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <thread>

#include "base/fd.h"
#include "harness.h"

namespace olly::kernel_test {
namespace {

class Special : public testing::Test {
 protected:
  void start(std::uint32_t ring_bytes = 0) {
    provider_ = make_provider(ring_bytes);
    const auto started = provider_->start();
    ASSERT_TRUE(started) << started.error().message;
  }
  void TearDown() override {
    if (provider_) provider_->stop();
  }
  void expect_clean_exit(const Program& run) {
    EXPECT_TRUE(WIFEXITED(run.status()) && WEXITSTATUS(run.status()) == 0) << run.status();
  }
  // Polls until everything that has happened by now is recorded.
  void settle(Recorder& recorder) {
    const Nanos now = monotonic_now();
    while (recorder.advanced <= now && monotonic_now() < now + 20 * kSecond)
      provider_->poll(recorder, kMillisecond);
    ASSERT_GT(recorder.advanced, now);
  }
  // A kt_life whose sockets are older than the agent: what was seen of it, by name.
  std::map<std::string, SocketId> begun_before(const char* how) {
    Program run("kt_life", {how, "inet"});
    run.begin();
    EXPECT_TRUE(run.until_pause(nullptr, nullptr));
    start();
    recorder_.follow(run.pid());
    settle(recorder_);
    run.resume();
    EXPECT_TRUE(run.finish(*provider_, recorder_));
    expect_clean_exit(run);
    Truth truth = parse_truth(run.output());
    truth.opened.clear();  // nobody saw that
    truth.connects.clear();
    return compare(truth, recorder_);
  }

  std::unique_ptr<Provider> provider_;
  Recorder recorder_;
};

// The socket that carries the bytes in `direction` of the first event of each.
SocketId first_sock(const Recorder& recorder, Direction direction) {
  for (const Io& io : recorder.ios)
    if (io.event.direction == direction) return io.event.sock;
  return 0;
}

TEST_F(Special, SocketsOlderThanTheAgent) {
  const auto sockets = begun_before("met");
  ASSERT_EQ(sockets.size(), 2u);
  for (const Open& open : recorder_.opens) {
    const bool client = open.event.sock == sockets.at("client");
    EXPECT_TRUE(open.event.met);
    EXPECT_EQ(open.event.recv_pos, client ? 600u : 40u);
    EXPECT_EQ(open.event.send_pos, client ? 40u : 1000u);
  }
}

// What a call has read from one connection is never taken for another one's, whatever its
// descriptor stands for by the time it returns.
TEST_F(Special, DescriptorReplacedUnderAWaitingCall) {
  start();
  Program run("kt_share", {"replaced", "inet"});
  recorder_.follow(run.pid());
  provider_->set_process(run.pid(), ProcessVerdict{.observe = true});
  run.begin();
  ASSERT_TRUE(run.finish(*provider_, recorder_));
  expect_clean_exit(run);
  std::map<SocketId, std::string> received;
  for (const Io& io : recorder_.ios)
    if (io.event.direction == Direction::recv && !io.event.overlap)
      received[io.event.sock] += io.payload;
  std::size_t seconds = 0;
  for (const auto& [sock, bytes] : received) {
    const bool first = bytes == std::string(30, 'a');  // sockio sees it where it belongs
    seconds += bytes == std::string(110, 'b') ? 1 : 0;
    EXPECT_TRUE(first || bytes == std::string(110, 'b')) << bytes;
  }
  EXPECT_EQ(seconds, 1u);
}

TEST_F(Special, CallThatWaitsSinceBeforeTheAgent) {
  ASSERT_EQ(begun_before("waiting").size(), 2u);
  EXPECT_EQ(recorder_.ios.size(), 4u);
}

TEST_F(Special, PolicySkipsCopiesLessAndGoesQuiet) {
  start();
  Program run("kt_life", {"steps", "inet"});
  recorder_.follow(run.pid());
  run.begin();
  ASSERT_TRUE(run.until_pause(provider_.get(), &recorder_, 1));
  settle(recorder_);
  ASSERT_EQ(recorder_.ios.size(), 4u);
  const SocketId client = first_sock(recorder_, Direction::send);
  const SocketId server = first_sock(recorder_, Direction::recv);
  // The client's second write (100 to 200) needs no event, its third (200 to 300) does.
  provider_->skip_until(client, Direction::send, 250);
  provider_->limit_copy(server, 7);
  run.resume();
  ASSERT_TRUE(run.until_pause(provider_.get(), &recorder_, 2));
  settle(recorder_);
  ASSERT_EQ(recorder_.ios.size(), 7u);
  for (std::size_t i = 4; i < 7; ++i) {
    const Io& io = recorder_.ios[i];
    EXPECT_FALSE(io.event.sock == client && io.event.direction == Direction::send);
    EXPECT_EQ(io.payload.size(), io.event.sock == server ? 7u : io.event.length);
  }
  run.resume();
  ASSERT_TRUE(run.until_pause(provider_.get(), &recorder_, 3));
  settle(recorder_);
  ASSERT_EQ(recorder_.ios.size(), 11u);
  EXPECT_EQ(recorder_.ios[7].event.sock, client);
  EXPECT_EQ(recorder_.ios[7].event.position, 200u);
  provider_->quiet(client);
  provider_->quiet(server);
  run.resume();
  ASSERT_TRUE(run.finish(*provider_, recorder_));
  expect_clean_exit(run);
  EXPECT_EQ(recorder_.ios.size(), 11u) << "quiet connections still make events";
  ASSERT_EQ(recorder_.closes.size(), 2u);
  for (const Close& close : recorder_.closes) {
    EXPECT_TRUE(close.event.positions_known);
    const bool is_client = close.event.sock == client;
    EXPECT_EQ(close.event.send_pos, is_client ? 400u : 1200u);
    EXPECT_EQ(close.event.recv_pos, is_client ? 1200u : 400u);
  }
}

TEST_F(Special, ExcludedProcessAndItsDescendants) {
  start();
  Program run("kt_life", {"family_tree", "inet"});
  recorder_.follow(run.pid());
  run.begin();
  ASSERT_TRUE(run.until_pause(provider_.get(), &recorder_));
  provider_->set_process(run.pid(), ProcessVerdict{.observe = false});
  settle(recorder_);
  run.resume();
  ASSERT_TRUE(run.finish(*provider_, recorder_));
  expect_clean_exit(run);
  EXPECT_EQ(recorder_.ios.size(), 0u) << "an excluded process is still captured";
}

TEST_F(Special, AgentsOwnSocketsMakeOnlyAnOpen) {
  start();
  UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(listener.get(), 4), 0);
  socklen_t length = sizeof address;
  ASSERT_EQ(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  Program run("kt_life", {"to_agent", std::to_string(ntohs(address.sin_port))});
  recorder_.follow(run.pid());
  recorder_.follow(static_cast<std::uint32_t>(getpid()));
  {
    const std::jthread agent([&] {
      const UniqueFd peer(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
      char buffer[50] = {};
      EXPECT_EQ(recv(peer.get(), buffer, 30, MSG_WAITALL), 30);
      EXPECT_EQ(write(peer.get(), buffer, 50), 50);
      EXPECT_EQ(read(peer.get(), buffer, 1), 0);
    });
    run.begin();
    ASSERT_TRUE(run.finish(*provider_, recorder_));
  }
  expect_clean_exit(run);
  settle(recorder_);
  for (const Io& io : recorder_.ios) EXPECT_EQ(io.event.task.pid, run.pid());
  ASSERT_EQ(recorder_.opens.size(), 1u);
  const OpenEvent& theirs = recorder_.opens[0].event;
  const auto mine = std::count_if(recorder_.own.begin(), recorder_.own.end(), [&](const auto& own) {
    return own.identity.peer() == theirs.identity;
  });
  EXPECT_EQ(mine, 1) << "the agent's end is known by its identity";
}

TEST_F(Special, FullRingLosesCountedRecordsAndHoldsNobodyUp) {
  start(64 * 1024);
  Program run("kt_life", {"flood", "inet"});
  recorder_.follow(run.pid());
  run.begin();
  ASSERT_TRUE(run.until_pause(provider_.get(), &recorder_));
  settle(recorder_);
  run.resume();
  // Nobody polls while it floods.
  const Nanos limit = monotonic_now() + 60 * kSecond;
  while (run.output().find("done flood") == std::string::npos && monotonic_now() < limit)
    usleep(1000);
  ASSERT_TRUE(run.finish(*provider_, recorder_)) << "a full ring holds the program up";
  expect_clean_exit(run);
  provider_->stop();  // brings the counters up to date
  EXPECT_GT(dropped_records(*provider_), 0u);
  EXPECT_LT(recorder_.ios.size(), 6000u);
  EXPECT_EQ(recorder_.ios.size() + dropped_records(*provider_) >= 6000u, true)
      << "a record is neither there nor counted";
  conserve(recorder_);
}

TEST_F(Special, TwentyThousandConnectionsLeaveNothingBehind) {
  start();
  Program run("kt_life", {"many", "inet"});
  recorder_.follow(run.pid());
  recorder_.keep_payload = false;
  run.begin();
  ASSERT_TRUE(run.until_pause(provider_.get(), &recorder_));
  settle(recorder_);
  const auto before = state_entries();
  run.resume();
  ASSERT_TRUE(run.finish(*provider_, recorder_));
  expect_clean_exit(run);
  settle(recorder_);
  const auto after = state_entries();
  provider_->stop();
  if (dropped_records(*provider_) == 0) {
    EXPECT_EQ(recorder_.opens.size(), 40000u);
    EXPECT_EQ(recorder_.closes.size(), 40000u);
    EXPECT_EQ(recorder_.ios.size(), 40000u);
  } else {
    EXPECT_GT(recorder_.ios.size() + dropped_records(*provider_), 39999u);
  }
  if (before && after) {
    EXPECT_LE(*after, *before + 100) << "closed sockets leave state behind";
  }
}

TEST_F(Special, TwoThreadsOnOneSocketAreExactOrMarked) {
  start();
  Program run("kt_share", {"threads", "inet"}, false);
  recorder_.follow(run.pid());
  run.begin();
  ASSERT_TRUE(run.finish(*provider_, recorder_));
  expect_clean_exit(run);
  const Truth truth = parse_truth(run.output());
  std::string wire;  // eight letters stand for 64 bytes
  for (const std::string& line : truth.wire) wire += line;
  ASSERT_EQ(wire.size(), 2u * 2000 * 8);
  std::size_t sends = 0, uncertain = 0;
  // A range counts as uncertain where an event that is marked touches it.
  std::vector<std::pair<std::uint64_t, std::uint64_t>> marked;
  for (const Io& io : recorder_.ios)
    if (io.event.overlap)
      marked.emplace_back(io.event.position, io.event.position + io.event.length);
  for (const Io& io : recorder_.ios) {
    if (io.event.direction != Direction::send) continue;
    ++sends;
    ASSERT_EQ(io.payload.size(), 64u);
    const std::uint64_t from = io.event.position, until = from + 64;
    const bool doubtful = std::any_of(marked.begin(), marked.end(), [&](const auto& range) {
      return range.first < until && from < range.second;
    });
    uncertain += doubtful;
    if (doubtful) continue;
    ASSERT_EQ(from % 64, 0u);
    ASSERT_LT(until, 2u * 2000 * 64 + 1);
    EXPECT_EQ(io.payload.substr(0, 8), wire.substr(from / 64 * 8, 8))
        << "bytes of another thread at " << from << ", and nothing says so";
  }
  EXPECT_EQ(sends, 4000u);
  RecordProperty("uncertain", static_cast<int>(uncertain));
}

}  // namespace
}  // namespace olly::kernel_test
