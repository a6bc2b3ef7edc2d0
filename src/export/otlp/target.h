// Where and how one signal goes: what exporters.otlp and the OTEL_EXPORTER_OTLP_* variables come
// to. Endpoint rules: opentelemetry-specification, protocol/exporter.md, "Endpoint URLs for
// OTLP/HTTP".
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "config/config.h"
#include "export/net/stream.h"

namespace olly::otlp {

enum class Signal : std::uint8_t { traces, metrics };

struct Endpoint {
  bool tls = false;
  std::string host;  // without brackets
  std::string port;
  std::string authority;  // as it stands in :authority and Host
  std::string path;       // http: of the request; grpc: empty
  bool operator==(const Endpoint&) const = default;
};

// `own`: the endpoint was given for this signal alone, so its path is used as it is; else
// /v1/<signal> is appended (http). Without a scheme `insecure` decides, and the port may be missing
// (4317, 4318); with one, a missing port is that of the scheme. Errors: config.
Result<Endpoint> parse_endpoint(std::string_view text, config::OtlpProtocol protocol, bool insecure,
                                Signal signal, bool own);

struct OtlpTarget {
  config::OtlpProtocol protocol = config::OtlpProtocol::grpc;
  Endpoint endpoint;
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  config::Compression compression = config::Compression::gzip;
  config::Milliseconds timeout{10000};
  config::Tls tls;

  // Whether both can go over one connection: all but the path is the same.
  bool same_connection(const OtlpTarget& other) const;
  net::Target connection() const;
};

// Where `signal` goes. An empty endpoint.host: nowhere (only the other signal has an endpoint).
// Errors: config: an endpoint or a header that cannot be.
Result<OtlpTarget> resolve_target(const config::OtlpExporter& config, Signal signal);

}  // namespace olly::otlp
