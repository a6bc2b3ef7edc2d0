// What the environment says: OLLY_* for every key, and the OTEL_* variables of the OpenTelemetry
// specification ("SDK configuration", "OTLP exporter configuration").
#include "config/environment.h"

#include <fmt/format.h>

#include <charconv>
#include <set>

#include "config/schema.h"

extern char** environ;

namespace olly::config {
namespace {

std::string upper_snake(std::string_view path) {
  std::string name = "OLLY_";
  for (char c : path) name += c == '.' ? '_' : static_cast<char>(std::toupper(c));
  return name;
}

// OLLY_<PATH>, and which of them are not in effect.
Result<void> apply_olly(Loaded& loaded, const Environment& environment, Places& places) {
  const auto value_of = [&](const std::string& variable) -> const std::string* {
    const auto found = environment.find(variable);
    return found == environment.end() || found->second.empty() ? nullptr : &found->second;
  };
  std::set<std::string> known;
  for (const Key& key : keys()) {
    const std::string variable = upper_snake(key.path);
    known.insert(variable);
    const std::string* value = value_of(variable);
    if (!value) continue;
    places[key.path] = variable;
    for (auto dot = key.path.rfind('.'); dot != std::string::npos;
         dot = dot == 0 ? dot : key.path.rfind('.', dot - 1)) {
      places.emplace(key.path.substr(0, dot), variable);
    }
    if (auto done = key.set(loaded.config, *value); !done) {
      return fail(ErrorCode::config, fmt::format("{}: {}", variable, done.error().message));
    }
  }
  for (const Structure& structure : structures()) {
    const std::string variable = upper_snake(structure.path);
    known.insert(variable);
    const std::string* value = value_of(variable);
    if (!value) continue;
    if (auto done = read_structure(structure.path, *value, variable, {}, loaded.config); !done) {
      return done;
    }
  }
  for (const auto& [variable, value] : environment) {
    if (!variable.starts_with("OLLY_") || known.contains(variable) || value.empty()) continue;
    for (const std::string_view path : unsupported()) {
      const std::string later = upper_snake(path);
      if (variable != later && !variable.starts_with(later + "_")) continue;
      // A library that this program may load reads this one, too: no reason to refuse to start.
      if (path == "hook.socket_path") break;
      return fail(ErrorCode::config, fmt::format("{}: '{}' is not supported yet", variable, path));
    }
    loaded.warnings.push_back(
        fmt::format("the variable {} is not known and has no effect", variable));
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
  OtelVariables(Loaded& loaded, const Environment& environment, Places& places)
      : loaded_(loaded), environment_(environment), places_(places) {}

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
    options(prefix, *otlp);
    overrides(prefix + "TRACES_", *otlp, otlp->traces);
    overrides(prefix + "METRICS_", *otlp, otlp->metrics);
  }

  // The variables with this prefix, but for the endpoint.
  void options(const std::string& prefix, OtlpExporter& otlp) {
    Config config;
    config.exporters.otlp = otlp;
    const auto set = [&](const char* name, std::string_view path, const char* unit = "") {
      const std::string variable = prefix + name;
      const std::string* text = get(variable);
      if (text == nullptr) return;
      if (auto done = find_key(path)->set(config, *text + unit); !done) {
        return ignored(variable, done.error().message);
      }
      places_[std::string(path)] = variable;
      if (path.starts_with("exporters.otlp.tls.")) places_.emplace("exporters.otlp.tls", variable);
    };
    set("COMPRESSION", "exporters.otlp.compression");
    set("INSECURE", "exporters.otlp.insecure");
    set("CERTIFICATE", "exporters.otlp.tls.ca_file");
    set("CLIENT_CERTIFICATE", "exporters.otlp.tls.cert_file");
    set("CLIENT_KEY", "exporters.otlp.tls.key_file");
    set("TIMEOUT", "exporters.otlp.timeout", "ms");
    otlp = *config.exporters.otlp;
    if (const std::string* text = get(prefix + "PROTOCOL")) {
      if (*text == "grpc") {
        otlp.protocol = OtlpProtocol::grpc;
      } else if (*text == "http/protobuf") {
        otlp.protocol = OtlpProtocol::http;
      } else {
        ignored(prefix + "PROTOCOL", "allowed: grpc, http/protobuf");
      }
    }
    if (const std::string* text = get(prefix + "HEADERS")) headers(prefix + "HEADERS", *text, otlp);
  }

  void headers(const std::string& variable, const std::string& text, OtlpExporter& otlp) {
    const auto pairs = parse_pairs(text);
    if (!pairs) return ignored(variable, "it is not of the form name=value,name=value");
    for (const auto& [name, value] : *pairs) {
      if (auto done = set_header(otlp, name, value); !done) ignored(variable, done.error().message);
    }
  }

  // The variables of one signal: what they say stands in place of the general.
  void overrides(const std::string& prefix, const OtlpExporter& base, OtlpOverrides& own) {
    OtlpExporter with = base;
    with.headers.clear();
    options(prefix, with);
    const auto take = [&](const char* variable, auto& to, const auto& value) {
      if (get(prefix + variable) != nullptr) to = value;
    };
    if (const std::string* text = get(prefix + "ENDPOINT")) own.endpoint = *text;
    take("PROTOCOL", own.protocol, with.protocol);
    take("INSECURE", own.insecure, with.insecure);
    take("HEADERS", own.headers, with.headers);
    take("COMPRESSION", own.compression, with.compression);
    take("TIMEOUT", own.timeout, with.timeout);
    take("CERTIFICATE", own.ca_file, with.tls.ca_file);
    take("CLIENT_CERTIFICATE", own.cert_file, with.tls.cert_file);
    take("CLIENT_KEY", own.key_file, with.tls.key_file);
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

  Loaded& loaded_;
  const Environment& environment_;
  Places& places_;
};

}  // namespace

Result<void> apply_environment(Loaded& loaded, const Environment& environment, Places& places) {
  OtelVariables(loaded, environment, places).apply();
  return apply_olly(loaded, environment, places);
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
