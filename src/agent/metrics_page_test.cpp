// docs/metrics.md names what the agent exports: every metric in the sources, and no other, with its
// kind, unit and labels.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "agent/pipeline.h"
#include "export/exporters.h"
#include "hook/stub_provider.h"
#include "metrics/self.h"
#include "traces/context/context.h"

namespace olly {
namespace {

struct Row {
  std::string kind, unit;
  std::set<std::string> labels;
};

std::string trim(std::string text) {
  text.erase(0, text.find_first_not_of(' '));
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

std::map<std::string, Row> documented() {
  std::ifstream page(OLLY_SOURCE_DIR "/docs/metrics.md");
  std::map<std::string, Row> rows;
  for (std::string line; std::getline(page, line);) {
    if (!line.starts_with("| `olly_")) continue;
    std::vector<std::string> cells;
    std::istringstream in(line.substr(1));
    for (std::string cell; std::getline(in, cell, '|');) cells.push_back(trim(cell));
    EXPECT_EQ(cells.size(), 5u) << line;
    if (cells.size() != 5) continue;
    Row row{cells[1], cells[2], {}};
    const std::regex word("`([a-z_]+)`");
    for (std::sregex_iterator at(cells[3].begin(), cells[3].end(), word), end; at != end; ++at) {
      row.labels.insert((*at)[1]);
    }
    EXPECT_FALSE(cells[4].empty()) << line;
    EXPECT_TRUE(rows.emplace(cells[0].substr(1, cells[0].size() - 2), row).second) << line;
  }
  return rows;
}

// The literals that are names of metrics: of Prometheus form, behind counter( or gauge(, or in a
// constant.
std::set<std::string> in_sources() {
  namespace fs = std::filesystem;
  const std::regex name(
      R"re((?:counter\(|gauge\(|std::string_view k\w+ =)\s*"(olly_[a-z0-9_]+)")re");
  std::set<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(OLLY_SOURCE_DIR "/src")) {
    const std::string path = entry.path().string();
    if (!path.ends_with(".cpp") || path.ends_with("_test.cpp")) continue;
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    const std::string source = text.str();
    for (std::sregex_iterator at(source.begin(), source.end(), name), end; at != end; ++at) {
      names.insert((*at)[1]);
    }
  }
  return names;
}

TEST(MetricsPage, HasEveryMetricAndNoOther) {
  std::set<std::string> page;
  for (const auto& [name, row] : documented()) page.insert(name);
  EXPECT_EQ(page, in_sources());
}

TEST(MetricsPage, ExplainsEveryCause) {
  std::ifstream page(OLLY_SOURCE_DIR "/docs/metrics.md");
  std::set<std::string> explained, causes;
  const std::regex row(R"(\| `([a-z_]+)` \| .*)");
  for (std::string line; std::getline(page, line);) {
    std::smatch found;
    if (std::regex_match(line, found, row) && !found[1].str().starts_with("olly_")) {
      explained.insert(found[1]);
    }
  }
  for (std::size_t i = 1; i < context::kCauses; ++i) {
    causes.emplace(context::cause_name(static_cast<context::Cause>(i)));
  }
  EXPECT_EQ(explained, causes);
}

TEST(MetricsPage, SaysWhatIsRegistered) {
  MetricRegistry registry;
  register_self_metrics(registry);
  config::Config config;
  config.exporters.stdout_.emplace();
  Exporters exporters(config.exporters, registry);
  StubProvider provider;
  {
    agent::PipelineOptions options{config, {}, 0};
    options.processes.roots = {1};
    const agent::Pipeline pipeline(options, provider, exporters.spans(), registry, {});
  }
  const std::map<std::string, Row> rows = documented();
  std::set<std::string> seen;
  registry.visit([&](const MetricRegistry::Sample& sample) {
    const auto found = rows.find(std::string(sample.name));
    ASSERT_NE(found, rows.end()) << sample.name;
    seen.emplace(sample.name);
    EXPECT_EQ(found->second.kind, sample.is_counter ? "counter" : "gauge") << sample.name;
    std::set<std::string> labels;
    for (const auto& [key, value] : *sample.labels) labels.insert(key);
    EXPECT_EQ(found->second.labels, labels) << sample.name;
    EXPECT_FALSE(sample.help.empty()) << sample.name;
    if (!sample.unit.empty()) {
      EXPECT_EQ(found->second.unit, sample.unit == "By" ? "bytes" : "seconds") << sample.name;
    }
  });
  // What the contract promises from the start, at 0.
  for (const char* name : {"olly_bytes_total", "olly_bytes_pending", "olly_drops_total",
                           "olly_links_total", "olly_spans_total"}) {
    EXPECT_TRUE(seen.contains(name)) << name;
  }
}

}  // namespace
}  // namespace olly
