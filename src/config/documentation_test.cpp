// docs/configuration.md says what the schema says: every key, with its type, default and meaning,
// and no other.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "config/loader.h"
#include "config/schema.h"

namespace olly::config {
namespace {

std::string row(std::string_view path, std::string_view type, std::string_view fallback,
                std::string_view description) {
  std::string types(type);
  for (auto at = types.find('|'); at != std::string::npos; at = types.find('|')) {
    types.replace(at, 1, ", ");
  }
  return fmt::format("| `{}` | {} | {} | {} |", path, types,
                     fallback.empty() ? "" : fmt::format("`{}`", fallback), description);
}

std::set<std::string> lines_with(std::string_view beginning) {
  std::ifstream page(OLLY_SOURCE_DIR "/docs/configuration.md");
  std::set<std::string> lines;
  for (std::string line; std::getline(page, line);) {
    if (!line.starts_with(beginning)) continue;
    EXPECT_TRUE(lines.insert(line).second) << "twice: " << line;
  }
  return lines;
}

TEST(ConfigurationPage, HasEveryKeyAndNoOther) {
  std::set<std::string> rows;
  for (const Key& k : keys()) rows.insert(row(k.path, k.type, k.fallback, k.description));
  for (const Structure& s : structures()) {
    rows.insert(row(s.path, s.type, s.fallback, s.description));
  }
  const std::set<std::string> documented = lines_with("| `");
  for (const std::string& line : rows) {
    EXPECT_TRUE(documented.contains(line)) << "docs/configuration.md lacks\n" << line;
  }
  for (const std::string& line : documented) {
    EXPECT_TRUE(rows.contains(line)) << "docs/configuration.md has, and the schema has not\n"
                                     << line;
  }
}

TEST(ConfigurationPage, NamesWhatIsRefused) {
  std::set<std::string> refused;
  for (const std::string_view path : unsupported()) refused.insert(fmt::format("* `{}`", path));
  EXPECT_EQ(lines_with("* `"), refused);
}

// The defaults of the page are those of the program.
TEST(ConfigurationPage, DefaultsAreTrue) {
  Config config;
  config.exporters.otlp.emplace();
  config.exporters.file.emplace();
  config.exporters.stdout_.emplace();
  for (const Key& key : keys()) {
    // Filled in when everything is read: see below.
    if (key.path == "service_name" || key.path == "exporters.otlp.endpoint" ||
        key.path == "exporters.file.rotate.count" || key.fallback.empty() ||
        key.path == "hook.socket_path") {  // by the user: preload::default_socket_path
      continue;
    }
    Config set = config;
    if (key.path.starts_with("tracing.protocols.")) {
      ASSERT_TRUE(key.set(set, "true"));
      EXPECT_EQ(key.fallback, "true");
      continue;
    }
    ASSERT_TRUE(key.set(set, key.fallback)) << key.path;
    EXPECT_TRUE(set == config) << key.path << ": " << key.fallback;
  }
  const auto loaded = load("exporters: {otlp: , file: {path: a, rotate: {size: 1MiB}}}", "", {});
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->config.exporters.otlp->endpoint, "http://localhost:4317");
  EXPECT_EQ(std::to_string(loaded->config.exporters.file->rotate_count),
            find_key("exporters.file.rotate.count")->fallback);
}

// Every example of the page is a configuration.
TEST(ConfigurationPage, ExamplesLoad) {
  for (const char* file : {"/docs/configuration.md", "/README.md"}) {
    std::ifstream page(std::string(OLLY_SOURCE_DIR) + file);
    std::string example;
    int examples = 0;
    bool inside = false;
    for (std::string line; std::getline(page, line);) {
      if (line == "```yaml") {
        inside = true;
        example.clear();
      } else if (inside && line == "```") {
        inside = false;
        ++examples;
        const auto loaded = load(example, file, {{"TOKEN", "x"}});
        EXPECT_TRUE(loaded) << loaded.error().message << "\n" << example;
      } else if (inside) {
        example += line + "\n";
      }
    }
    EXPECT_GT(examples, 0) << file;
  }
}

}  // namespace
}  // namespace olly::config
