// Every tests/replay/*.olly: as written, with connections that rest, with every payload split into
// single bytes and at every position, and with each call lost in turn.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "agent/replay_run.h"

namespace olly::replay {
namespace {

std::vector<std::string> files() {
  std::vector<std::string> all;
  for (const auto& entry : std::filesystem::directory_iterator(OLLY_SOURCE_DIR "/tests/replay")) {
    if (entry.path().extension() == ".olly") all.push_back(entry.path().string());
  }
  std::sort(all.begin(), all.end());
  return all;
}

class ReplayFile : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto loaded = load(GetParam());
    ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
    recording_ = std::move(*loaded);
    ASSERT_FALSE(recording_.expectations.empty()) << "a test that expects nothing cannot fail";
  }
  RunResult run(ProviderOptions provider = {}, bool rest_at_once = false) {
    RunOptions options;
    options.provider = std::move(provider);
    options.rest_at_once = rest_at_once;
    return run_replay(recording_, options);
  }
  static std::string text(const RunResult& r) {
    std::string all;
    for (const KeptSpan& s : r.spans) all += describe(s) + "\n";
    return all;
  }
  Recording recording_;
};

TEST_P(ReplayFile, AsWritten) {
  const RunResult r = run();
  EXPECT_EQ(r.difference, "");
  EXPECT_TRUE(r.bytes_conserved);
  EXPECT_EQ(text(r), text(run())) << "the same input gives the same output";
}

// A connection whose parser is put away and made again between any two calls where that can be.
TEST_P(ReplayFile, RestingBetweenCalls) {
  const RunResult r = run({}, true);
  EXPECT_EQ(r.difference, "");
  EXPECT_TRUE(r.bytes_conserved);
  EXPECT_EQ(text(r), text(run()));
}

TEST_P(ReplayFile, SplitIntoBytes) {
  ProviderOptions provider;
  provider.split = {1};
  const RunResult r = run(provider);
  EXPECT_EQ(r.difference, "");
  EXPECT_TRUE(r.bytes_conserved);
}

TEST_P(ReplayFile, SplitAtEveryPosition) {
  std::size_t longest = 0;
  for (const Step& s : recording_.steps) longest = std::max(longest, s.payload.size());
  // Large generated files would take minutes: they are split at fewer places.
  const std::size_t stride = recording_.steps.size() > 100 ? 17 : 1;
  for (std::uint32_t at = 1; at < std::min<std::size_t>(longest, 400); at += stride) {
    ProviderOptions provider;
    provider.split = {at, 0x7fffffff};
    const RunResult r = run(provider);
    ASSERT_EQ(r.difference, "") << "split at " << at;
    ASSERT_TRUE(r.bytes_conserved) << "split at " << at;
  }
}

// Every link that is made with a loss must be one that is made without it.
void expect_no_wrong_link(const RunResult& whole, const RunResult& r, std::uint32_t line,
                          bool every_call_told) {
  for (const KeptSpan& s : r.spans) {
    if (!s.parent_id.valid()) continue;
    const auto method = s.attributes.find("olly.link.method");
    const std::string how = method == s.attributes.end() ? "" : method->second;
    if (how == "traceparent") continue;  // the message's own words
    if (how == "loop" && !every_call_told) continue;
    const auto same = std::find_if(whole.spans.begin(), whole.spans.end(),
                                   [&](const KeptSpan& w) { return w.span_id == s.span_id; });
    ASSERT_NE(same, whole.spans.end())
        << "a linked span out of nothing: " << describe(s) << "\nlost: line " << line;
    if (!same->parent_id.valid() && !every_call_told) continue;
    EXPECT_EQ(to_hex(same->parent_id), to_hex(s.parent_id))
        << "a wrong parent: " << describe(s) << "\nlost: line " << line;
  }
}

// The bytes of one call were not captured: spans may be missing or incomplete, every byte has its
// fate, no link is wrong.
TEST_P(ReplayFile, EachPayloadNotCaptured) {
  const RunResult whole = run();
  const std::size_t stride = recording_.steps.size() > 100 ? 7 : 1;
  for (std::size_t i = 0; i < recording_.steps.size(); i += stride) {
    if (recording_.steps[i].kind != Step::Kind::io) continue;
    ProviderOptions provider;
    provider.uncaptured = {i};
    const RunResult r = run(provider);
    ASSERT_TRUE(r.bytes_conserved) << "not captured: line " << recording_.steps[i].line;
    expect_no_wrong_link(whole, r, recording_.steps[i].line, true);
  }
}

// No event tells of one call at all. Then evidence can be wrong that is made of what did not
// happen: the window of the read before stays open in a socket loop, and a thread with two requests
// seems to have one. A producer that loses events says so (olly_drops_total); here, what was linked
// before must not be linked otherwise, loops aside.
TEST_P(ReplayFile, EachCallLost) {
  const RunResult whole = run();
  const std::size_t stride = recording_.steps.size() > 100 ? 7 : 1;
  for (std::size_t i = 0; i < recording_.steps.size(); i += stride) {
    if (recording_.steps[i].kind != Step::Kind::io) continue;
    ProviderOptions provider;
    provider.lost = {i};
    const RunResult r = run(provider);
    ASSERT_TRUE(r.bytes_conserved) << "lost: line " << recording_.steps[i].line;
    expect_no_wrong_link(whole, r, recording_.steps[i].line, false);
  }
}

INSTANTIATE_TEST_SUITE_P(Files, ReplayFile, ::testing::ValuesIn(files()), [](const auto& param) {
  return std::filesystem::path(param.param).stem().string();
});

}  // namespace
}  // namespace olly::replay
