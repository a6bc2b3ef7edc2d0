#include "config/loader.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <set>
#include <sstream>

#include "config/schema.h"

extern char** environ;

namespace olly::config {
namespace {

std::string join(const std::string& parent, const std::string& child) {
  return parent.empty() ? child : parent + "." + child;
}

bool is_under(std::string_view path, std::string_view section) {
  return path == section ||
         (path.starts_with(section) && path.size() > section.size() && path[section.size()] == '.');
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

// What may stand directly below `section`, from the table and the few keys that are no scalars.
std::set<std::string> children_of(const std::string& section) {
  std::set<std::string> names;
  const auto take = [&](std::string_view path) {
    if (!section.empty()) {
      if (!is_under(path, section) || path == section) return;
      path.remove_prefix(section.size() + 1);
    }
    names.emplace(path.substr(0, path.find('.')));
  };
  for (const Key& key : keys()) take(key.path);
  for (std::string_view path : {"hook.include", "hook.exclude", "exporters.otlp.headers"})
    take(path);
  return names;
}

class Loader {
 public:
  Loader(std::string_view name, const Environment& environment)
      : name_(name), environment_(environment) {}

  Result<void> read(std::string_view yaml, Config& config) {
    YAML::Node root;
    try {
      root = YAML::Load(std::string(yaml));
    } catch (const YAML::Exception& e) {
      return fail(ErrorCode::config,
                  fmt::format("{}:{}:{}: {}", name_, e.mark.line + 1, e.mark.column + 1, e.msg));
    }
    if (root.IsNull()) return {};
    try {
      return section(root, "", config);
    } catch (const YAML::Exception& e) {
      return fail(ErrorCode::config, fmt::format("{}: {}", name_, e.what()));
    }
  }

 private:
  std::unexpected<Error> error(const YAML::Node& at, std::string_view message) const {
    return fail(ErrorCode::config, fmt::format("{}:{}:{}: {}", name_, at.Mark().line + 1,
                                               at.Mark().column + 1, message));
  }

  Result<std::string> scalar(const YAML::Node& node) const {
    if (!node.IsScalar()) return error(node, "a single value is needed here");
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
      std::string variable = in.substr(i + 2, end - i - 2);
      std::optional<std::string> fallback;
      if (const auto at = variable.find(":-"); at != std::string::npos) {
        fallback = variable.substr(at + 2);
        variable.resize(at);
      }
      const auto found = environment_.find(variable);
      if (found != environment_.end() && !found->second.empty()) {
        out += found->second;
      } else if (fallback) {
        out += *fallback;
      } else {
        return error(node,
                     fmt::format("the variable {} is not set; write ${{{}:-default}} to allow "
                                 "that",
                                 variable, variable));
      }
      i = end;
    }
    return out;
  }

  Result<void> unknown(const YAML::Node& at, const std::string& parent,
                       const std::string& key) const {
    const std::set<std::string> known = children_of(parent);
    std::string best, allowed;
    for (const std::string& name : known) {
      allowed += (allowed.empty() ? "" : ", ") + name;
      if (distance(name, key) <= 2 && (best.empty() || distance(name, key) < distance(best, key))) {
        best = name;
      }
    }
    return error(at, fmt::format("unknown key '{}'{}; allowed: {}", join(parent, key),
                                 best.empty() ? "" : fmt::format(", did you mean '{}'?", best),
                                 allowed.empty() ? "nothing" : allowed));
  }

  Result<void> section(const YAML::Node& node, const std::string& path, Config& config) {
    if (!node.IsMap()) {
      return error(node, path.empty()
                             ? "the file must be a mapping of keys to values"
                             : fmt::format("'{}' is a section: keys are needed here", path));
    }
    if (path == "exporters.stdout" && !config.exporters.stdout_) config.exporters.stdout_.emplace();
    if (path == "exporters.otlp" && !config.exporters.otlp) config.exporters.otlp.emplace();
    if (path == "exporters.file" && !config.exporters.file) config.exporters.file.emplace();
    std::set<std::string> seen;
    for (const auto& item : node) {
      const std::string key = item.first.as<std::string>();
      if (!seen.insert(key).second) {
        return error(item.first, fmt::format("duplicate key '{}'", join(path, key)));
      }
      if (auto done = entry(item.first, item.second, path, key, config); !done) return done;
    }
    return {};
  }

  Result<void> entry(const YAML::Node& name, const YAML::Node& value, const std::string& parent,
                     const std::string& key, Config& config) {
    const std::string path = join(parent, key);
    for (std::string_view later : unsupported()) {
      if (is_under(path, later)) {
        return error(name, fmt::format("'{}' is not supported yet", path));
      }
    }
    if (path == "hook.include") return selectors(value, config.hook.include);
    if (path == "hook.exclude") return selectors(value, config.hook.exclude);
    if (path == "exporters.otlp.headers") return headers(value, config);
    if (const Key* leaf = find_key(path)) {
      const auto text = scalar(value);
      if (!text) return std::unexpected(text.error());
      if (auto done = leaf->set(config, *text); !done) {
        return error(value, fmt::format("{}: {}", path, done.error().message));
      }
      return {};
    }
    if (!children_of(path).empty()) {
      // "stdout:" with nothing behind it means the section with its defaults
      if (value.IsNull()) return section(YAML::Node(YAML::NodeType::Map), path, config);
      return section(value, path, config);
    }
    return unknown(name, parent, key);
  }

  Result<void> selectors(const YAML::Node& node, std::vector<ProcessSelector>& to) {
    constexpr std::string_view kAllowed = "a list of {pid: N}, {exe: GLOB} or {service: NAME}";
    if (!node.IsSequence()) return error(node, fmt::format("allowed: {}", kAllowed));
    to.clear();
    for (const YAML::Node& item : node) {
      if (!item.IsMap() || item.size() != 1)
        return error(item, fmt::format("allowed: {}", kAllowed));
      const auto& pair = *item.begin();
      const std::string kind = pair.first.as<std::string>();
      const auto text = scalar(pair.second);
      if (!text) return std::unexpected(text.error());
      ProcessSelector selector;
      if (kind == "pid") {
        std::uint32_t pid = 0;
        const auto [end, bad] = std::from_chars(text->data(), text->data() + text->size(), pid);
        if (bad != std::errc{} || end != text->data() + text->size() || pid == 0) {
          return error(pair.second, fmt::format("'{}' is not a process id", *text));
        }
        selector.pid = pid;
      } else if (kind == "exe") {
        selector.exe = *text;
      } else if (kind == "service") {
        selector.service = *text;
      } else {
        return error(pair.first, fmt::format("unknown key '{}'; allowed: {}", kind, kAllowed));
      }
      to.push_back(std::move(selector));
    }
    return {};
  }

  Result<void> headers(const YAML::Node& node, Config& config) {
    if (!node.IsMap()) return error(node, "allowed: {name: value}");
    if (!config.exporters.otlp) config.exporters.otlp.emplace();
    for (const auto& item : node) {
      const auto value = scalar(item.second);
      if (!value) return std::unexpected(value.error());
      config.exporters.otlp->headers.emplace_back(item.first.as<std::string>(), *value);
    }
    return {};
  }

  std::string_view name_;
  const Environment& environment_;
};

std::string upper_snake(std::string_view path) {
  std::string name = "OLLY_";
  for (char c : path) name += c == '.' ? '_' : static_cast<char>(std::toupper(c));
  return name;
}

Result<void> apply_olly(Loaded& loaded, const Environment& environment) {
  std::set<std::string> known = {"OLLY_HOOK_SOCKET_PATH"};
  for (const Key& key : keys()) {
    const std::string variable = upper_snake(key.path);
    known.insert(variable);
    const auto found = environment.find(variable);
    if (found == environment.end() || found->second.empty()) continue;
    if (auto done = key.set(loaded.config, found->second); !done) {
      return fail(ErrorCode::config, fmt::format("{}: {}", variable, done.error().message));
    }
  }
  for (const auto& [variable, value] : environment) {
    if (variable.starts_with("OLLY_") && !known.contains(variable)) {
      loaded.warnings.push_back(
          fmt::format("the variable {} is not known and has no effect", variable));
    }
  }
  return {};
}

std::optional<std::string> percent_decode(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    unsigned byte = 0;
    if (i + 2 >= text.size()) return std::nullopt;
    const auto [end, bad] = std::from_chars(text.data() + i + 1, text.data() + i + 3, byte, 16);
    if (bad != std::errc{} || end != text.data() + i + 3) return std::nullopt;
    out += static_cast<char>(byte);
    i += 2;
  }
  return out;
}

// W3C baggage style: k=v,k=v. On any error the whole value counts for nothing, as the specification
// of OTEL_RESOURCE_ATTRIBUTES says.
std::optional<std::vector<std::pair<std::string, std::string>>> parse_pairs(std::string_view text) {
  std::vector<std::pair<std::string, std::string>> pairs;
  const auto trim = [](std::string_view s) {
    while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
    while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
    return s;
  };
  while (!text.empty()) {
    const auto comma = text.find(',');
    const std::string_view item = trim(text.substr(0, comma));
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
    if (item.empty()) continue;
    const auto equals = item.find('=');
    if (equals == std::string_view::npos || equals == 0) return std::nullopt;
    const auto key = percent_decode(trim(item.substr(0, equals)));
    const auto value = percent_decode(trim(item.substr(equals + 1)));
    if (!key || !value) return std::nullopt;
    pairs.emplace_back(*key, *value);
  }
  return pairs;
}

class OtelVariables {
 public:
  OtelVariables(Loaded& loaded, const Environment& environment)
      : loaded_(loaded), environment_(environment) {}

  void apply() {
    exporter();
    resource();
    if (const std::string* text = get("OTEL_METRIC_EXPORT_INTERVAL")) {
      std::uint32_t ms = 0;
      const auto [end, bad] = std::from_chars(text->data(), text->data() + text->size(), ms);
      if (bad == std::errc{} && end == text->data() + text->size() && ms >= 100) {
        loaded_.config.metrics.interval = Milliseconds(ms);
      } else {
        ignored("OTEL_METRIC_EXPORT_INTERVAL", "it is not a number of milliseconds (100 or more)");
      }
    }
  }

 private:
  const std::string* get(const std::string& name) const {
    const auto found = environment_.find(name);
    return found == environment_.end() || found->second.empty() ? nullptr : &found->second;
  }
  void ignored(std::string_view name, std::string_view why) {
    loaded_.warnings.push_back(fmt::format("{} is ignored: {}", name, why));
  }

  void exporter() {
    const std::string prefix = "OTEL_EXPORTER_OTLP_";
    auto& otlp = loaded_.config.exporters.otlp;
    const std::string* base = get(prefix + "ENDPOINT");
    const std::string* traces = get(prefix + "TRACES_ENDPOINT");
    const std::string* metrics = get(prefix + "METRICS_ENDPOINT");
    if ((base || traces || metrics) && !otlp) otlp.emplace();
    if (!otlp) return;
    if (base) otlp->endpoint = *base;
    if (traces) otlp->traces_endpoint = *traces;
    if (metrics) otlp->metrics_endpoint = *metrics;
    through_schema(prefix + "COMPRESSION", "exporters.otlp.compression");
    through_schema(prefix + "INSECURE", "exporters.otlp.insecure");
    through_schema(prefix + "CERTIFICATE", "exporters.otlp.tls.ca_file");
    through_schema(prefix + "CLIENT_CERTIFICATE", "exporters.otlp.tls.cert_file");
    through_schema(prefix + "CLIENT_KEY", "exporters.otlp.tls.key_file");
    if (const std::string* text = get(prefix + "PROTOCOL")) {
      if (*text == "grpc") {
        otlp->protocol = OtlpProtocol::grpc;
      } else if (*text == "http/protobuf") {
        otlp->protocol = OtlpProtocol::http;
      } else {
        ignored(prefix + "PROTOCOL", "allowed: grpc, http/protobuf");
      }
    }
    if (const std::string* text = get(prefix + "TIMEOUT")) {
      set("exporters.otlp.timeout", prefix + "TIMEOUT", *text + "ms");
    }
    if (const std::string* text = get(prefix + "HEADERS")) {
      if (const auto pairs = parse_pairs(*text)) {
        for (const auto& pair : *pairs) otlp->headers.push_back(pair);
      } else {
        ignored(prefix + "HEADERS", "it is not of the form name=value,name=value");
      }
    }
  }

  void resource() {
    if (const std::string* text = get("OTEL_RESOURCE_ATTRIBUTES")) {
      if (const auto pairs = parse_pairs(*text)) {
        for (const auto& [key, value] : *pairs) {
          if (key == "service.name" && loaded_.config.service_name.empty()) {
            loaded_.config.service_name = value;
          } else if (key != "service.name") {
            loaded_.config.resource_attributes.emplace_back(key, value);
          }
        }
      } else {
        ignored("OTEL_RESOURCE_ATTRIBUTES", "it is not of the form key=value,key=value");
      }
    }
    if (const std::string* text = get("OTEL_SERVICE_NAME")) loaded_.config.service_name = *text;
  }

  void through_schema(const std::string& variable, std::string_view path) {
    if (const std::string* text = get(variable)) set(path, variable, *text);
  }
  void set(std::string_view path, const std::string& variable, std::string_view text) {
    if (auto done = find_key(path)->set(loaded_.config, text); !done) {
      ignored(variable, done.error().message);
    }
  }

  Loaded& loaded_;
  const Environment& environment_;
};

// What only shows when everything is there.
Result<void> finish(Config& config, std::string_view name) {
  Exporters& e = config.exporters;
  if (e.file && e.file->path.empty()) {
    return fail(ErrorCode::config, fmt::format("{}: exporters.file needs a path", name));
  }
  if (e.file && e.file->rotate_size != 0 && e.file->rotate_count == 0) e.file->rotate_count = 5;
  if (e.otlp && e.otlp->tls.cert_file.empty() != e.otlp->tls.key_file.empty()) {
    return fail(ErrorCode::config,
                fmt::format("{}: exporters.otlp.tls needs cert_file and key_file together", name));
  }
  if (e.otlp && e.otlp->endpoint.empty() && e.otlp->traces_endpoint.empty()) {
    e.otlp->endpoint = e.otlp->protocol == OtlpProtocol::grpc ? "localhost:4317" : "localhost:4318";
  }
  if (!e.otlp && !e.file && !e.stdout_) e.stdout_.emplace();
  return {};
}

}  // namespace

Result<Loaded> load(std::string_view yaml, std::string_view name, const Environment& environment) {
  Loaded loaded;
  Loader loader(name, environment);
  if (auto done = loader.read(yaml, loaded.config); !done) return std::unexpected(done.error());
  OtelVariables(loaded, environment).apply();
  if (auto done = apply_olly(loaded, environment); !done) return std::unexpected(done.error());
  if (auto done = finish(loaded.config, name); !done) return std::unexpected(done.error());
  return loaded;
}

Result<Loaded> load_file(const std::string& path, const Environment& environment) {
  std::ifstream file(path);
  if (!file) {
    return fail(ErrorCode::config, fmt::format("{}: cannot be read", path),
                "check the path and its permissions");
  }
  std::stringstream text;
  text << file.rdbuf();
  return load(text.str(), path, environment);
}

Environment process_environment() {
  Environment environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const auto equals = text.find('=');
    if (equals != std::string_view::npos) {
      environment.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
  }
  return environment;
}

}  // namespace olly::config
