#include "hook/replay/recording.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "agent/replay_run.h"
#include "hook/replay/writer.h"

namespace olly::replay {
namespace {

std::string error_of(std::string_view text) {
  auto r = parse(text, "f.olly");
  return r ? "" : r.error().message;
}

TEST(Recording, ErrorsNameThePlaceAndWhatIsAllowed) {
  EXPECT_TRUE(error_of("bogus").starts_with("f.olly:1:1: \"bogus\" is no statement"));
  EXPECT_TRUE(error_of("process p pid=x").starts_with("f.olly:1:11: "));
  EXPECT_TRUE(error_of("\nprocess p pid=1\nconn c q inbound 1.1.1.1:1 1.1.1.1:2")
                  .starts_with("f.olly:3:8: no process is named"));
  const std::string head = "process p pid=1\nconn c p inbound 1.1.1.1:1 [::1]:2\n";
  EXPECT_TRUE(error_of(head + "c recv \"a\\q\"").starts_with("f.olly:3:10: unknown escape"));
  EXPECT_TRUE(error_of(head + "c recv \"abc").starts_with("f.olly:3:"));
  EXPECT_TRUE(
      error_of(head + "c recv +3 \"a\"").starts_with("f.olly:3:8: \"3\" is not a duration"));
  EXPECT_TRUE(error_of(head + "c recv length=1 \"ab\"").starts_with("f.olly:3:"));
  EXPECT_TRUE(error_of(head + "c leap").starts_with("f.olly:3:3: "));
  EXPECT_TRUE(error_of(head + "expect span parent=s1").starts_with("f.olly:3:13: "));
  EXPECT_EQ(error_of(head + "c recv tid=2 \"\\x41\\r\\n\" hex:0a0b fill:2 # why\n"), "");
}

TEST(Recording, Payloads) {
  auto r = parse(
      "process p pid=1\nconn c p unknown unix:/s unix:\nc recv +1.5ms \"\\x41#\" hex:0a fill:2 "
      "nonblock ec=go:7",
      "f");
  ASSERT_TRUE(r.has_value()) << r.error().message;
  const Step& s = r->steps.back();
  EXPECT_EQ(s.payload, "A#\nxx");
  EXPECT_EQ(s.length, 5u);
  EXPECT_EQ(s.at, 1'500'000u);
  EXPECT_EQ(s.task.ec, 7u);
  EXPECT_TRUE(s.nonblocking);
}

// Recorded while it is replayed, then replayed again: the same spans.
TEST(Recording, WhatIsWrittenGivesTheSameAgain) {
  for (const char* name : {"link_nginx_keepalive_connect", "link_chain", "http_long_body_skipped",
                           "http_gap_resync", "time_split", "link_goroutine"}) {
    auto first = load(std::string(OLLY_SOURCE_DIR "/tests/replay/") + name + ".olly");
    ASSERT_TRUE(first.has_value());
    const std::string path =
        (std::filesystem::temp_directory_path() / ("olly-writer-" + std::to_string(getpid())))
            .string();
    ReplayProvider provider(*first, {});
    auto writer = Writer::create(path, provider);
    ASSERT_TRUE(writer.has_value());
    while (provider.poll(**writer, 0)) {
    }
    ASSERT_TRUE((*writer)->finish().has_value());
    auto second = load(path);
    std::filesystem::remove(path);
    ASSERT_TRUE(second.has_value()) << second.error().message;
    second->expectations = first->expectations;
    EXPECT_EQ(run_replay(*second, {}).difference, "") << name;
  }
}

}  // namespace
}  // namespace olly::replay
