// The documents' promises that a machine can check: links lead somewhere, files and constants that
// are named exist.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

namespace olly {
namespace {

namespace fs = std::filesystem;
const fs::path kRoot = OLLY_SOURCE_DIR;

std::string text_of(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<fs::path> documents() {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(kRoot)) {
    if (entry.path().extension() == ".md") out.push_back(entry.path());
  }
  for (const char* folder : {"docs", "src", "bpf", "tests", "deploy"}) {
    for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder)) {
      if (entry.path().extension() == ".md") out.push_back(entry.path());
    }
  }
  return out;
}

// As code hosts make them: lower case, blanks to dashes, other punctuation away.
std::set<std::string> anchors_of(const fs::path& path) {
  std::set<std::string> anchors;
  std::istringstream lines(text_of(path));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with('#')) continue;
    line.erase(0, line.find_first_not_of("# "));
    std::string anchor;
    for (const char c : line) {
      if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_') {
        anchor += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      } else if (c == ' ') {
        anchor += '-';
      }
    }
    anchors.insert(anchor);
  }
  return anchors;
}

std::vector<std::string> matches(const std::string& text, const std::regex& pattern) {
  std::vector<std::string> out;
  for (std::sregex_iterator at(text.begin(), text.end(), pattern), end; at != end; ++at) {
    out.push_back((*at)[1]);
  }
  return out;
}

TEST(Documents, LinksLeadSomewhere) {
  const std::regex link(R"(\]\(([^)\s]+)\))");
  std::size_t links = 0;
  for (const fs::path& page : documents()) {
    for (std::string target : matches(text_of(page), link)) {
      if (target.find("://") != std::string::npos || target.starts_with("mailto:")) continue;
      ++links;
      std::string anchor;
      if (const auto hash = target.find('#'); hash != std::string::npos) {
        anchor = target.substr(hash + 1);
        target.resize(hash);
      }
      const fs::path file = target.empty() ? page : page.parent_path() / target;
      EXPECT_TRUE(fs::exists(file)) << page << " links to " << target;
      if (!anchor.empty() && fs::is_regular_file(file)) {
        EXPECT_TRUE(anchors_of(file).contains(anchor)) << page << " links to #" << anchor;
      }
    }
  }
  EXPECT_GT(links, 10u);
}

// `src/x/y.h`, or `src/x/y.h:name` for something that the file holds.
TEST(Documents, NamedFilesAndConstantsExist) {
  const std::regex named(R"(`((?:src|bpf|tests|scripts|deploy|docs|cmake)/[\w./-]+(?::\w+)?)`)");
  std::size_t found = 0;
  for (const fs::path& page : documents()) {
    for (std::string name : matches(text_of(page), named)) {
      ++found;
      std::string constant;
      if (const auto colon = name.find(':'); colon != std::string::npos) {
        constant = name.substr(colon + 1);
        name.resize(colon);
      }
      EXPECT_TRUE(fs::exists(kRoot / name)) << page << " names " << name;
      if (constant.empty()) continue;
      EXPECT_TRUE(std::regex_search(text_of(kRoot / name), std::regex("\\b" + constant + "\\b")))
          << page << " names " << constant << " of " << name;
    }
  }
  EXPECT_GT(found, 20u);
}

// Every page of docs/ is in its index.
TEST(Documents, TheIndexIsWhole) {
  const std::string index = text_of(kRoot / "docs/README.md");
  for (const auto& entry : fs::directory_iterator(kRoot / "docs")) {
    const std::string name = entry.path().filename().string();
    if (name == "README.md") continue;
    EXPECT_NE(index.find("](" + name), std::string::npos) << name;
  }
}

}  // namespace
}  // namespace olly
