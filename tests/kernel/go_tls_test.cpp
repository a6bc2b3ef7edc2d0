// Go's crypto/tls: what both ends were given and gave is what the PLAINTEXT events say, byte for
// byte.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "harness.h"

namespace olly::kernel_test {
namespace {

// What was asked, and answered, on each connection, from the paths that the program printed:
// /size/CONNECTION-NUMBER-SIZE.
std::map<int, std::pair<std::string, std::string>> streams_of(const std::string& output) {
  std::map<int, std::pair<std::string, std::string>> streams;
  std::istringstream lines(output);
  for (std::string line; std::getline(lines, line);) {
    int connection = 0, number = 0, size = 0;
    if (std::sscanf(line.c_str(), "/size/%d-%d-%d", &connection, &number, &size) != 3) continue;
    const std::string length = fmt::format("Content-Length: {}\r\n\r\n{}", size,
                                           std::string(static_cast<std::size_t>(size), 'x'));
    auto& [asked, answered] = streams[connection];
    asked += fmt::format("POST {} HTTP/1.1\r\nHost: a\r\n{}", line, length);
    answered += "HTTP/1.1 200 OK\r\n" + length;
  }
  return streams;
}

TEST(GoTls, EveryByteOnceAndInItsPlace) {
  if (::access((options().programs + "/kt_go_tls").c_str(), X_OK) != 0) {
    GTEST_SKIP() << "there was no Go where this was built";
  }
  const auto provider = make_provider(kRoomyRing);
  const auto started = provider->start();
  ASSERT_TRUE(started) << started.error().message;
  Recorder recorder;
  Program run("kt_go_tls", {"7"}, false);
  recorder.follow(run.pid());
  run.begin();
  ASSERT_TRUE(run.until_pause(provider.get(), &recorder));
  for (int n = 0; n < 200; ++n) provider->poll(recorder, kMillisecond);  // the probes are placed
  run.resume();
  ASSERT_TRUE(run.finish(*provider, recorder));
  provider->stop();
  ASSERT_TRUE(WIFEXITED(run.status()) && WEXITSTATUS(run.status()) == 0) << run.output();
  EXPECT_EQ(dropped_records(*provider), 0u);

  // A stream is a socket and a direction. Of a long write the end is not copied; those are bodies.
  std::map<std::pair<SocketId, Direction>, std::vector<const Io*>> streams;
  for (const Io& io : recorder.ios) {
    if (io.event.plaintext) streams[{io.event.sock, io.event.direction}].push_back(&io);
  }
  std::vector<std::string> seen, expected;
  for (auto& [stream, ios] : streams) {
    std::string text;
    for (const Io* io : ios) {
      EXPECT_EQ(io->event.position, text.size());
      text += io->payload;
      EXPECT_LE(io->payload.size(), io->event.length);
      text.append(io->event.length - io->payload.size(), 'x');
    }
    seen.push_back(std::move(text));
  }
  for (const auto& [connection, both] : streams_of(run.output())) {
    for (int end = 0; end < 2; ++end) {
      expected.push_back(both.first);
      expected.push_back(both.second);
    }
  }
  ASSERT_EQ(expected.size(), 32u);
  std::sort(seen.begin(), seen.end());
  std::sort(expected.begin(), expected.end());
  ASSERT_EQ(seen.size(), expected.size());
  for (std::size_t i = 0; i < seen.size(); ++i) {
    const auto differ =
        std::mismatch(seen[i].begin(), seen[i].end(), expected[i].begin(), expected[i].end());
    EXPECT_TRUE(seen[i] == expected[i])
        << "stream " << i << ": " << seen[i].size() << " bytes instead of " << expected[i].size()
        << ", the first difference at " << differ.first - seen[i].begin();
  }
}

}  // namespace
}  // namespace olly::kernel_test
