// TLS: every byte that a program gives to its library and gets from it is what the events say, at
// its place, on its connection; by every variant of the calls, in random sizes.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "harness.h"
#include "hook/ebpf/kernel_abi.h"

namespace olly::kernel_test {
namespace {

struct Case {
  const char* name;
  const char* program;
  std::vector<std::string> arguments;  // behind the libraries
  bool whole =
      true;  // else a move may be missing, but none is at another place or on another socket
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class Tls : public testing::TestWithParam<Case> {};

using Moves = std::vector<const TruthMove*>;
using Events = std::vector<const Io*>;

bool same(const TruthMove& truth, const Io& io) {
  return io.event.direction == truth.direction && io.event.position == truth.position &&
         io.event.length == truth.length && io.event.payload_offset == 0 &&
         io.payload == truth.bytes.substr(0, io.payload.size()) &&
         io.payload.size() >= std::min<std::size_t>(truth.length, OLLY_UNKNOWN_COPY);
}

bool happened(const TruthMove& truth, const Io& io) {
  return io.event.task.tid == truth.tid && truth.from <= io.event.time &&
         io.event.time <= truth.until;
}

std::string text(const TruthMove& m) {
  return fmt::format("{} at {}, {} bytes", m.direction == Direction::send ? "send" : "recv",
                     m.position, m.length);
}

TEST_P(Tls, EveryByte) {
  const char* chosen = std::getenv("OLLY_TEST_LIBSSL");  // others than this host's
  std::vector<std::string> arguments{chosen != nullptr ? chosen : "libssl.so.3"};
  const char* crypto = std::getenv("OLLY_TEST_LIBCRYPTO");
  arguments.push_back(crypto != nullptr ? crypto : "libcrypto.so.3");
  for (const std::string& a : GetParam().arguments) arguments.push_back(a);

  const auto provider = make_provider(kRoomyRing);
  const auto started = provider->start();
  ASSERT_TRUE(started) << started.error().message;
  Recorder recorder;
  Program run(GetParam().program, arguments, false);
  recorder.follow(run.pid());
  run.begin();
  ASSERT_TRUE(run.until_pause(provider.get(), &recorder) ||
              !parse_truth(run.output()).skip.empty());
  if (const std::string why = parse_truth(run.output()).skip; !why.empty()) GTEST_SKIP() << why;
  const Nanos loaded = monotonic_now();
  while (monotonic_now() < loaded + 300 * kMillisecond) provider->poll(recorder, kMillisecond);
  run.resume();
  ASSERT_TRUE(run.finish(*provider, recorder));
  EXPECT_TRUE(WIFEXITED(run.status()) && WEXITSTATUS(run.status()) == 0) << run.status();
  EXPECT_EQ(dropped_records(*provider), 0u);
  provider->stop();

  const Truth truth = parse_truth(run.output());
  std::map<std::string, Moves> moves;
  for (const TruthMove& m : truth.moves) moves[m.name].push_back(&m);
  std::map<SocketId, Events> events;
  for (const Io& io : recorder.ios) {
    if (io.event.plaintext && !io.event.eof) events[io.event.sock].push_back(&io);
  }
  ASSERT_FALSE(moves.empty());
  EXPECT_EQ(events.size(), moves.size());
  std::size_t compared = 0;
  for (const auto& [name, wanted] : moves) {
    // Its socket: where one of the things that it did comes first.
    const auto found = std::find_if(events.begin(), events.end(), [&](const auto& e) {
      return std::any_of(wanted.begin(), wanted.end(),
                         [&](const TruthMove* m) { return happened(*m, *e.second.front()); });
    });
    if (found == events.end()) {
      ADD_FAILURE() << name << ": nothing was seen of it";
      continue;
    }
    for (const Open& open : recorder.opens) {
      // What stands for a socket that is not known has no endpoints.
      if (open.event.sock != found->first || open.event.local.family == Family::none) continue;
      EXPECT_EQ(endpoint_text(open.event.local), truth.sockets.at(name).local) << name;
      EXPECT_EQ(endpoint_text(open.event.remote), truth.sockets.at(name).remote) << name;
    }
    const Events& got = found->second;
    std::size_t next = 0;
    std::string missing;
    for (const TruthMove* m : wanted) {
      if (next < got.size() && same(*m, *got[next]))
        ++next;
      else if (missing.empty())
        missing = text(*m);
    }
    compared += next;
    EXPECT_EQ(next, got.size()) << name << ": at position "
                                << got[std::min(next, got.size() - 1)]->event.position
                                << " is seen what was not moved there";
    if (GetParam().whole) {
      EXPECT_EQ(missing, "") << name;
    }
    EXPECT_GT(next, wanted.size() / 2) << name;
  }
  std::printf("  %zu calls of %zu ends\n", compared, moves.size());
}

std::string name_of(const testing::TestParamInfo<Case>& test) { return test.param.name; }

INSTANTIATE_TEST_SUITE_P(
    Random, Tls,
    testing::Values(Case{"sockets_12", "kt_tls", {"sockets", "1.2", "6", "4", "700", "3"}},
                    Case{"sockets_13", "kt_tls", {"sockets", "1.3", "7", "4", "700", "3"}},
                    Case{"sockets_13_handshake_within_calls",
                         "kt_tls",
                         {"sockets", "1.3", "5", "4", "700", "3", "handshake"}},
                    Case{"memory_12", "kt_tls", {"memory", "1.2", "8", "8", "1500", "2"}},
                    Case{"memory_13", "kt_tls", {"memory", "1.3", "9", "8", "1500", "2"}},
                    Case{"memory_13_handshake_within_calls",
                         "kt_tls",
                         {"memory", "1.3", "11", "8", "1500", "2", "handshake"}}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Story, Tls,
    testing::Values(Case{"first_calls_12", "kt_tls_story", {"first_calls", "1.2"}},
                    Case{"first_calls_13", "kt_tls_story", {"first_calls", "1.3"}},
                    Case{"pieces_12", "kt_tls_story", {"pieces", "1.2"}},
                    Case{"pieces_13", "kt_tls_story", {"pieces", "1.3"}},
                    Case{"renegotiation_12", "kt_tls_story", {"renegotiation", "1.2"}},
                    Case{"nothing_12", "kt_tls_story", {"nothing", "1.2"}},
                    Case{"nothing_13", "kt_tls_story", {"nothing", "1.3"}},
                    Case{"early_data_13", "kt_tls_story", {"early_data", "1.3"}},
                    Case{"shutdown_12", "kt_tls_story", {"shutdown", "1.2"}},
                    Case{"shutdown_13", "kt_tls_story", {"shutdown", "1.3"}},
                    Case{"crossed_12", "kt_tls_story", {"crossed", "1.2"}, false},
                    Case{"crossed_13", "kt_tls_story", {"crossed", "1.3"}, false},
                    Case{"threads_12", "kt_tls_story", {"threads", "1.2"}},
                    Case{"threads_13", "kt_tls_story", {"threads", "1.3"}}),
    name_of);

}  // namespace
}  // namespace olly::kernel_test
