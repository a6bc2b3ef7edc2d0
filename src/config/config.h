// The configuration, typed, with its defaults. The loader fills it from YAML and the environment;
// rooms get the part they need by value. docs/configuration.md is checked against the schema.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace olly::config {

using Milliseconds = std::chrono::milliseconds;

enum class LogLevel : std::uint8_t { debug, info, warn, error };
enum class ProviderChoice : std::uint8_t { automatic, ebpf, socket, stub };
enum class CaptureChoice : std::uint8_t { automatic, sockio, syscall };
enum class OtlpProtocol : std::uint8_t { grpc, http };
enum class Compression : std::uint8_t { none, gzip, zstd };
enum class StdoutFormat : std::uint8_t { text, json };

// Exactly one of the three is set.
struct ProcessSelector {
  std::optional<std::uint32_t> pid;
  std::optional<std::string> exe;      // glob over the absolute path
  std::optional<std::string> service;  // exact service.name
  bool operator==(const ProcessSelector&) const = default;
};

struct Hook {
  ProviderChoice provider = ProviderChoice::automatic;
  CaptureChoice ebpf_capture = CaptureChoice::automatic;
  std::uint64_t ebpf_ring_size = 4 * 1024 * 1024;  // of each CPU
  bool ebpf_tls = true;
  bool ebpf_tls_expensive = false;
  std::uint32_t ebpf_tls_max_files = 64;
  std::string socket_path;                      // empty = the default for this user
  std::uint64_t socket_ring_size = 512 * 1024;  // of each thread of a program that we start
  Milliseconds socket_attach_wait{200};         // of such a program, for what is to be injected
  bool on_demand = false;                       // capture waits for `olly trace start`
  std::vector<ProcessSelector> include;         // empty = every process but the agent
  std::vector<ProcessSelector> exclude;
  bool operator==(const Hook&) const = default;
};

// Requests to whom get a traceparent.
struct Destination {
  std::string name;                        // glob over the host that the request names, or ...
  std::array<std::uint8_t, 16> address{};  // ... of the peer's address the first `bits`
  std::uint8_t bits = 0;
  bool by_address = false;
  bool v6 = false;
  std::uint16_t port = 0;  // 0 = every one
  bool operator==(const Destination&) const = default;
};

struct Tracing {
  bool enabled = true;
  std::map<std::string, bool> protocols;  // by registry name; missing = enabled
  Milliseconds link_wait{2000};
  std::vector<Destination> inject;  // tracing.propagation.inject
  bool operator==(const Tracing&) const = default;
};

struct Capture {
  std::uint64_t max_bytes_per_call = 1024 * 1024;
  std::uint64_t memory = 40ull * 1024 * 1024;
  bool operator==(const Capture&) const = default;
};

struct Tls {
  std::string ca_file;
  std::string cert_file;
  std::string key_file;
  bool operator==(const Tls&) const = default;
};

// What OTEL_EXPORTER_OTLP_TRACES_* and ..._METRICS_* set for one signal, in place of the general.
struct OtlpOverrides {
  std::optional<std::string> endpoint;  // used as it is
  std::optional<OtlpProtocol> protocol;
  std::optional<bool> insecure;
  std::optional<std::vector<std::pair<std::string, std::string>>> headers;
  std::optional<Compression> compression;
  std::optional<Milliseconds> timeout;
  std::optional<std::string> ca_file;
  std::optional<std::string> cert_file;
  std::optional<std::string> key_file;
  bool operator==(const OtlpOverrides&) const = default;
};

struct OtlpExporter {
  std::string endpoint;  // base URL or host:port
  OtlpProtocol protocol = OtlpProtocol::grpc;
  bool insecure = false;  // counts only where the endpoint has no scheme
  std::vector<std::pair<std::string, std::string>> headers;
  Compression compression = Compression::gzip;
  Milliseconds timeout{10000};
  Tls tls;
  OtlpOverrides traces;
  OtlpOverrides metrics;
  bool operator==(const OtlpExporter&) const = default;
};

struct FileExporter {
  std::string path;
  std::uint64_t rotate_size = 0;  // 0 = never
  std::uint32_t rotate_count = 0;
  bool operator==(const FileExporter&) const = default;
};

struct StdoutExporter {
  StdoutFormat format = StdoutFormat::text;
  int fd = 1;  // `olly run` collects the text elsewhere while the program has the terminal
  bool operator==(const StdoutExporter&) const = default;
};

struct Exporters {
  std::uint64_t queue_size = 32ull * 1024 * 1024;
  std::optional<OtlpExporter> otlp;
  std::optional<FileExporter> file;
  std::optional<StdoutExporter> stdout_;
  bool operator==(const Exporters&) const = default;
};

struct Metrics {
  Milliseconds interval{
      60000};  // of the agent's own metrics over OTLP (OTEL_METRIC_EXPORT_INTERVAL)
  bool operator==(const Metrics&) const = default;
};

struct Health {
  bool enabled = true;
  std::string address = "127.0.0.1:8686";
  bool operator==(const Health&) const = default;
};

struct Config {
  std::string service_name;  // of the agent's own telemetry; empty = "olly"
  std::vector<std::pair<std::string, std::string>> resource_attributes;  // OTEL_RESOURCE_ATTRIBUTES
  LogLevel log_level = LogLevel::info;
  Hook hook;
  Tracing tracing;
  Capture capture;
  Exporters exporters;
  Metrics metrics;
  Health health;
  bool operator==(const Config&) const = default;
};

}  // namespace olly::config
