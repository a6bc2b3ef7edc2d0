#include "export/otlp/target.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

namespace olly::otlp {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

std::unexpected<Error> bad_endpoint(std::string_view text, std::string_view why) {
  return fail(ErrorCode::config, fmt::format("exporters.otlp.endpoint: '{}': {}", text, why),
              "allowed: http://host:port, https://host:port, host:port");
}

bool is_token(std::string_view name) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !name.empty() && std::ranges::all_of(name, [&](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           kMarks.find(c) != std::string_view::npos;
  });
}

// Names that are the transport's own.
bool is_reserved(std::string_view name) {
  constexpr std::array<std::string_view, 10> kOwn = {"content-type",
                                                     "content-length",
                                                     "content-encoding",
                                                     "transfer-encoding",
                                                     "connection",
                                                     "te",
                                                     "grpc-encoding",
                                                     "grpc-timeout",
                                                     "host",
                                                     "upgrade"};
  return std::ranges::find(kOwn, name) != kOwn.end();
}

Result<void> add_headers(const std::vector<std::pair<std::string, std::string>>& from,
                         OtlpTarget& to) {
  for (const auto& [name, value] : from) {
    const std::string key = lower(name);
    if (!is_token(key) || is_reserved(key)) {
      return fail(ErrorCode::config,
                  fmt::format("exporters.otlp.headers: '{}' cannot be set", name));
    }
    if (std::ranges::any_of(value, [](char c) {
          return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
        })) {
      return fail(
          ErrorCode::config,
          fmt::format("exporters.otlp.headers: the value of '{}' has control characters", name));
    }
    const auto found = std::ranges::find(to.headers, key, [](const auto& h) { return h.first; });
    if (found != to.headers.end()) {
      found->second = value;
    } else {
      to.headers.emplace_back(key, value);
    }
  }
  return {};
}

// host, host:port, [v6], [v6]:port. False when it is none of them.
bool split_host_port(std::string_view text, std::string& host, std::string& port) {
  std::string_view rest;
  if (text.starts_with('[')) {
    const auto end = text.find(']');
    if (end == std::string_view::npos) return false;
    host = text.substr(1, end - 1);
    rest = text.substr(end + 1);
    if (!rest.empty() && rest[0] != ':') return false;
  } else {
    const auto colon = text.find(':');
    host = text.substr(0, colon);
    if (colon != std::string_view::npos) rest = text.substr(colon);
  }
  if (!rest.empty()) {
    rest.remove_prefix(1);
    unsigned number = 0;
    const auto [end, bad] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
    if (bad != std::errc{} || end != rest.data() + rest.size() || number == 0 || number > 65535) {
      return false;
    }
    port = rest;
  }
  return !host.empty();
}

}  // namespace

Result<Endpoint> parse_endpoint(std::string_view text, config::OtlpProtocol protocol, bool insecure,
                                Signal signal, bool own) {
  const bool grpc = protocol == config::OtlpProtocol::grpc;
  Endpoint e;
  std::string_view rest = text;
  if (std::ranges::any_of(text, [](char c) {
        return static_cast<unsigned char>(c) <= 0x20 || static_cast<unsigned char>(c) >= 0x7f;
      })) {
    return bad_endpoint(text, "it has characters that a URL cannot have");
  }
  if (const auto scheme_end = text.find("://"); scheme_end != std::string_view::npos) {
    const std::string scheme = lower(text.substr(0, scheme_end));
    if (scheme != "http" && scheme != "https") return bad_endpoint(text, "the scheme is not known");
    e.tls = scheme == "https";
    e.port = e.tls ? "443" : "80";
    rest = text.substr(scheme_end + 3);
  } else {
    e.tls = !insecure;
    e.port = grpc ? "4317" : "4318";
  }
  const auto path_at = rest.find_first_of("/?#");
  const std::string_view authority = rest.substr(0, path_at);
  std::string_view path = path_at == std::string_view::npos ? "" : rest.substr(path_at);
  if (authority.find('@') != std::string_view::npos) {
    return bad_endpoint(text.substr(0, text.find("://") + 3), "no user in the URL; use headers");
  }
  if (!split_host_port(authority, e.host, e.port)) return bad_endpoint(text, "no host and port");
  if (path.find('#') != std::string_view::npos) return bad_endpoint(text, "no fragment here");
  const bool v6 = e.host.find(':') != std::string::npos;
  e.authority = (v6 ? "[" + e.host + "]" : e.host) + ":" + e.port;
  if (grpc) {
    if (!path.empty() && path != "/") return bad_endpoint(text, "protocol grpc has no path");
    return e;
  }
  if (own) {
    e.path = path.starts_with('/') ? std::string(path) : "/" + std::string(path);
    return e;
  }
  if (path.find('?') != std::string_view::npos) return bad_endpoint(text, "no query in a base URL");
  while (path.ends_with('/')) path.remove_suffix(1);
  e.path = std::string(path) + (signal == Signal::traces ? "/v1/traces" : "/v1/metrics");
  return e;
}

bool OtlpTarget::same_connection(const OtlpTarget& other) const {
  Endpoint mine = endpoint;
  mine.path = other.endpoint.path;
  return mine == other.endpoint && protocol == other.protocol && headers == other.headers &&
         compression == other.compression && timeout == other.timeout &&
         tls.ca_file == other.tls.ca_file && tls.cert_file == other.tls.cert_file &&
         tls.key_file == other.tls.key_file;
}

net::Target OtlpTarget::connection() const {
  const bool grpc = protocol == config::OtlpProtocol::grpc;
  return {endpoint.host,
          endpoint.port,
          endpoint.tls,
          {tls.ca_file, tls.cert_file, tls.key_file, grpc ? "h2" : "http/1.1", grpc}};
}

Result<OtlpTarget> resolve_target(const config::OtlpExporter& c, Signal signal) {
  const config::OtlpOverrides& own = signal == Signal::traces ? c.traces : c.metrics;
  OtlpTarget t;
  t.protocol = own.protocol.value_or(c.protocol);
  t.compression = own.compression.value_or(c.compression);
  t.timeout = own.timeout.value_or(c.timeout);
  t.tls.ca_file = own.ca_file.value_or(c.tls.ca_file);
  t.tls.cert_file = own.cert_file.value_or(c.tls.cert_file);
  t.tls.key_file = own.key_file.value_or(c.tls.key_file);
  if (t.tls.cert_file.empty() != t.tls.key_file.empty()) {
    return fail(ErrorCode::config, "exporters.otlp.tls needs cert_file and key_file together");
  }
  if (auto done = add_headers(own.headers ? *own.headers : c.headers, t); !done) {
    return std::unexpected(done.error());
  }
  const std::string& text = own.endpoint ? *own.endpoint : c.endpoint;
  if (text.empty()) return t;
  auto endpoint = parse_endpoint(text, t.protocol, own.insecure.value_or(c.insecure), signal,
                                 own.endpoint.has_value());
  if (!endpoint) return std::unexpected(endpoint.error());
  t.endpoint = std::move(*endpoint);
  return t;
}

}  // namespace olly::otlp
