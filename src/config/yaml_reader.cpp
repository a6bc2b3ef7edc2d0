// yaml-cpp is heavy to compile: this is the only file that includes it.
#include "config/yaml_reader.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "config/schema.h"

namespace olly::config {
namespace {

constexpr std::string_view kSelectors = "a list of {pid: N}, {exe: GLOB} or {service: NAME}";

std::string join(const std::string& parent, const std::string& child) {
  return parent.empty() ? child : parent + "." + child;
}

// Edit distance, for "did you mean"; both sides are short.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string plain(std::string_view key) {
  std::string out;
  for (const char c : key.substr(0, 64)) {
    out += c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return out;
}

template <class Fn>
void for_each_path(Fn&& fn) {
  for (const Key& key : keys()) fn(std::string_view(key.path));
  for (const Structure& structure : structures()) fn(structure.path);
}

// What may stand directly below `section`.
std::set<std::string> children_of(const std::string& section) {
  std::set<std::string> names;
  for_each_path([&](std::string_view path) {
    if (!section.empty()) {
      if (!is_under(path, section) || path == section) return;
      path.remove_prefix(section.size() + 1);
    }
    names.emplace(path.substr(0, path.find('.')));
  });
  return names;
}

// The key that was probably meant: a near one in the same section, else the same word elsewhere.
std::string meant(const std::set<std::string>& siblings, const std::string& key) {
  const std::string word = plain(key);
  const std::size_t reach = std::min<std::size_t>(2, word.size() / 2);
  std::string best;
  std::size_t best_distance = reach + 1;
  for (const std::string& name : siblings) {
    if (const std::size_t d = distance(name, word); d < best_distance) {
      best = name;
      best_distance = d;
    }
  }
  if (!best.empty()) return best;
  for_each_path([&](std::string_view path) {
    if (best.empty() && path.ends_with("." + word)) best = path;
  });
  return best;
}

bool is_token(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

class Reader {
 public:
  Reader(std::string_view name, const Environment& environment, Config& config, Places& places)
      : name_(name), environment_(environment), config_(config), places_(places) {}

  Result<void> read(std::string_view text) {
    return guarded([&]() -> Result<void> {
      const std::vector<YAML::Node> documents = YAML::LoadAll(std::string(text));
      if (documents.size() > 1) {
        return error(documents[1].Mark(), "a second document (after ---) is not allowed");
      }
      if (documents.empty() || documents[0].IsNull()) return {};
      return section(documents[0], "");
    });
  }

  Result<void> read_structure(std::string_view path, std::string_view text) {
    return guarded([&] { return structure(path, YAML::Load(std::string(text))); });
  }

 private:
  template <class Fn>
  Result<void> guarded(Fn&& fn) {
    try {
      return fn();
    } catch (const YAML::Exception& e) {
      return error(e.mark, e.msg);
    }
  }

  std::string place(const YAML::Mark& mark) const {
    // Without a mark (which null values may lack) the beginning of the text.
    return fmt::format("{}:{}:{}", name_, std::max(mark.line, 0) + 1, std::max(mark.column, 0) + 1);
  }
  std::unexpected<Error> error(const YAML::Mark& mark, std::string_view message) const {
    return fail(ErrorCode::config, fmt::format("{}: {}", place(mark), message));
  }
  std::unexpected<Error> error(const YAML::Node& at, std::string_view message) const {
    return error(at.Mark(), message);
  }

  Result<std::string> scalar(const YAML::Node& node, std::string_view path) const {
    if (node.IsNull()) return error(node, fmt::format("{}: a value is needed here", path));
    if (!node.IsScalar()) {
      return error(node, fmt::format("{}: a single value is needed here, not a {}", path,
                                     node.IsMap() ? "mapping" : "list"));
    }
    return expand(node);
  }

  // ${VAR}, ${VAR:-default}, $$.
  Result<std::string> expand(const YAML::Node& node) const {
    std::string out;
    const std::string& in = node.Scalar();
    for (std::size_t i = 0; i < in.size(); ++i) {
      if (in[i] != '$' || i + 1 >= in.size() || (in[i + 1] != '{' && in[i + 1] != '$')) {
        out += in[i];
        continue;
      }
      if (in[i + 1] == '$') {
        out += '$';
        ++i;
        continue;
      }
      const auto end = in.find('}', i);
      if (end == std::string::npos) return error(node, "${ without its }");
      auto value = variable(node, in.substr(i + 2, end - i - 2));
      if (!value) return value;
      out += *value;
      i = end;
    }
    return out;
  }

  Result<std::string> variable(const YAML::Node& node, std::string name) const {
    std::optional<std::string> fallback;
    if (const auto at = name.find(":-"); at != std::string::npos) {
      fallback = name.substr(at + 2);
      name.resize(at);
    }
    const bool named = !name.empty() && std::ranges::all_of(name, [](char c) {
      return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
    });
    if (!named || (fallback && fallback->find("${") != std::string::npos)) {
      return error(node, "allowed: ${VAR} or ${VAR:-default}, not nested; $$ is a dollar sign");
    }
    const auto found = environment_.find(name);
    if (found != environment_.end() && !found->second.empty()) return found->second;
    if (fallback) return *fallback;
    return error(
        node, fmt::format("the variable {} is not set; write ${{{}:-default}} to allow that", name,
                          name));
  }

  Result<void> unknown(const YAML::Node& at, const std::string& parent,
                       const std::string& key) const {
    const std::set<std::string> known = children_of(parent);
    std::string allowed;
    for (const std::string& name : known) allowed += (allowed.empty() ? "" : ", ") + name;
    const std::string best = meant(known, key);
    return error(
        at, fmt::format("unknown key '{}'{}; allowed: {}", join(parent, key),
                        best.empty() ? "" : fmt::format(", did you mean '{}'?", best), allowed));
  }

  Result<void> section(const YAML::Node& node, const std::string& path) {
    if (!node.IsMap()) {
      return error(node, path.empty()
                             ? "the file must be a mapping of keys to values"
                             : fmt::format("{}: keys are needed here, it is a section", path));
    }
    std::set<std::string> seen;
    for (const auto& item : node) {
      if (!item.first.IsScalar()) return error(item.first, "a key must be a single word");
      const std::string& key = item.first.Scalar();
      if (!seen.insert(key).second) {
        return error(item.first, fmt::format("duplicate key '{}'", join(path, key)));
      }
      if (auto done = entry(item.first, item.second, path, key); !done) return done;
    }
    return {};
  }

  Result<void> entry(const YAML::Node& name, const YAML::Node& value, const std::string& parent,
                     const std::string& key) {
    const std::string path = join(parent, key);
    if (is_unsupported(path)) return error(name, fmt::format("'{}' is not supported yet", path));
    places_[path] = place(name.Mark());
    for (const Structure& s : structures()) {
      if (path == s.path) return structure(s.path, value);
    }
    if (const Key* leaf = find_key(path)) {
      const auto text = scalar(value, path);
      if (!text) return std::unexpected(text.error());
      if (auto done = leaf->set(config_, *text); !done) {
        return error(value, fmt::format("{}: {}", path, done.error().message));
      }
      return {};
    }
    if (children_of(path).empty()) return unknown(name, parent, key);
    if (path == "exporters.stdout" && !config_.exporters.stdout_)
      config_.exporters.stdout_.emplace();
    if (path == "exporters.otlp" && !config_.exporters.otlp) config_.exporters.otlp.emplace();
    if (path == "exporters.file" && !config_.exporters.file) config_.exporters.file.emplace();
    // "stdout:" with nothing behind it means the section with its defaults
    return value.IsNull() ? Result<void>{} : section(value, path);
  }

  Result<void> structure(std::string_view path, const YAML::Node& value) {
    if (path == "hook.include") return selectors(value, path, config_.hook.include);
    if (path == "hook.exclude") return selectors(value, path, config_.hook.exclude);
    if (path == "tracing.propagation.inject") return destinations(value, path);
    return headers(value);
  }

  Result<void> selectors(const YAML::Node& node, std::string_view path,
                         std::vector<ProcessSelector>& to) {
    if (!node.IsSequence()) return error(node, fmt::format("{}: allowed: {}", path, kSelectors));
    to.clear();
    for (const YAML::Node& item : node) {
      if (!item.IsMap() || item.size() != 1 || !item.begin()->first.IsScalar()) {
        return error(item, fmt::format("{}: allowed: {}", path, kSelectors));
      }
      auto one = selector(item.begin()->first, item.begin()->second, path);
      if (!one) return std::unexpected(one.error());
      to.push_back(std::move(*one));
    }
    return {};
  }

  Result<ProcessSelector> selector(const YAML::Node& kind, const YAML::Node& value,
                                   std::string_view path) const {
    const auto text = scalar(value, path);
    if (!text) return std::unexpected(text.error());
    ProcessSelector out;
    if (kind.Scalar() == "pid") {
      std::uint32_t pid = 0;
      const auto [end, bad] = std::from_chars(text->data(), text->data() + text->size(), pid);
      if (bad != std::errc{} || end != text->data() + text->size() || pid == 0) {
        return error(value, fmt::format("{}: '{}' is not a process id", path, *text));
      }
      out.pid = pid;
    } else if (kind.Scalar() == "exe") {
      // The glob is matched with the whole path: a bare name would select nothing, silently.
      if (text->empty() || std::string_view("/*?[").find(text->front()) == std::string_view::npos) {
        return error(value, fmt::format("{}: '{}' never matches an absolute path; write '*/{}'",
                                        path, *text, *text));
      }
      out.exe = *text;
    } else if (kind.Scalar() == "service") {
      if (text->empty()) return error(value, fmt::format("{}: a name is needed here", path));
      out.service = *text;
    } else {
      return error(
          kind, fmt::format("{}: unknown key '{}'; allowed: {}", path, kind.Scalar(), kSelectors));
    }
    return out;
  }

  Result<void> destinations(const YAML::Node& node, std::string_view path) {
    if (!node.IsSequence()) return error(node, fmt::format("{}: a list is needed here", path));
    if (node.size() > kMaxDestinations) {
      return error(node, fmt::format("{}: at most {} destinations", path, kMaxDestinations));
    }
    config_.tracing.inject.clear();
    for (const YAML::Node& item : node) {
      const auto text = scalar(item, path);
      if (!text) return std::unexpected(text.error());
      auto one = parse_destination(*text);
      if (!one) return error(item, fmt::format("{}: {}", path, one.error().message));
      config_.tracing.inject.push_back(std::move(*one));
    }
    return {};
  }

  Result<void> headers(const YAML::Node& node) {
    constexpr std::string_view kPath = "exporters.otlp.headers";
    if (!node.IsMap()) return error(node, fmt::format("{}: allowed: {{name: value}}", kPath));
    if (!config_.exporters.otlp) config_.exporters.otlp.emplace();
    std::set<std::string> seen;
    for (const auto& item : node) {
      if (!item.first.IsScalar()) return error(item.first, "a header's name must be a single word");
      const std::string& name = item.first.Scalar();
      if (!seen.insert(plain(name)).second) {
        return error(item.first, fmt::format("duplicate header '{}'", name));
      }
      const auto value = scalar(item.second, kPath);
      if (!value) return std::unexpected(value.error());
      if (auto done = set_header(*config_.exporters.otlp, name, *value); !done) {
        return error(item.first, fmt::format("{}: {}", kPath, done.error().message));
      }
    }
    return {};
  }

  std::string_view name_;
  const Environment& environment_;
  Config& config_;
  Places& places_;
};

}  // namespace

Result<void> set_header(OtlpExporter& exporter, std::string_view name, std::string_view value) {
  // The value stays out of the message: it may be a secret.
  if (!is_token(name)) {
    return fail(ErrorCode::config, "a header's name may hold letters, digits and !#$%&'*+-.^_`|~");
  }
  if (std::ranges::any_of(value, [](char c) {
        return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
      })) {
    return fail(ErrorCode::config,
                fmt::format("the value of header '{}' must not hold control characters", name));
  }
  for (auto& [known, old] : exporter.headers) {
    if (std::ranges::equal(known, name, [](unsigned char a, unsigned char b) {
          return std::tolower(a) == std::tolower(b);
        })) {
      old = value;
      return {};
    }
  }
  exporter.headers.emplace_back(name, value);
  return {};
}

Result<void> read_yaml(std::string_view text, std::string_view name, const Environment& environment,
                       Config& config, Places& places) {
  return Reader(name, environment, config, places).read(text);
}

Result<void> read_structure(std::string_view path, std::string_view text, std::string_view name,
                            const Environment& environment, Config& config) {
  Places places;
  return Reader(name, environment, config, places).read_structure(path, text);
}

}  // namespace olly::config
