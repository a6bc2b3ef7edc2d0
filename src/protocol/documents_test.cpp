// What the documents say of the protocols is made from the registry: `make docs` writes it, this
// test reads it. A new protocol needs no other hand.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "protocol/names.h"

namespace olly {
namespace {

std::string read(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// `made` is what the page should be; with OLLY_UPDATE_DOCS=1 it becomes so.
void expect_page(const std::string& path, const std::string& made) {
  if (std::getenv("OLLY_UPDATE_DOCS") != nullptr) std::ofstream(path) << made;
  EXPECT_EQ(read(path), made) << "make docs writes it";
}

TEST(ProtocolDocuments, ReadmeHasTheTableOfTheRegistry) {
  const std::string path = OLLY_SOURCE_DIR "/README.md";
  const std::string page = read(path);
  const std::size_t begin = page.find("<!-- protocols: begin");
  const std::size_t end = page.find("<!-- protocols: end");
  ASSERT_NE(begin, std::string::npos);
  ASSERT_NE(end, std::string::npos);
  std::string made = page.substr(0, page.find('\n', begin) + 1);
  made += "| protocol | name | covered | not covered |\n|---|---|---|---|\n";
  for (const ProtocolInfo& p : protocols()) {
    made += fmt::format("| {} | `{}` | {} | {} |\n", p.title, p.name, p.covered, p.uncovered);
  }
  made += page.substr(end);
  expect_page(path, made);
}

TEST(ProtocolDocuments, ConfigurationHasARowForEach) {
  const std::string path = OLLY_SOURCE_DIR "/docs/configuration.md";
  std::stringstream page(read(path));
  std::string made;
  bool written = false;
  for (std::string line; std::getline(page, line);) {
    if (!line.starts_with("| `tracing.protocols.")) {
      made += line + "\n";
      continue;
    }
    if (written) continue;
    written = true;
    for (const ProtocolInfo& p : protocols()) {
      made += fmt::format(
          "| `tracing.protocols.{}.enabled` | boolean | `true` | Whether this protocol is parsed "
          "|\n",
          p.name);
    }
  }
  expect_page(path, made);
}

}  // namespace
}  // namespace olly
