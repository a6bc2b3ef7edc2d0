#include "config/schema.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <vector>

#include "config/loader.h"

namespace olly::config {
namespace {

Result<void> set_bool(bool& to, std::string_view text) {
  if (text != "true" && text != "false") {
    return fail(ErrorCode::config,
                fmt::format("'{}' is not a boolean; allowed: true, false", text));
  }
  to = text == "true";
  return {};
}

Result<void> set_duration(Milliseconds& to, std::string_view text, Milliseconds low,
                          Milliseconds high) {
  const auto value = parse_duration(text);
  if (!value) return std::unexpected(value.error());
  if (*value < low || *value > high) {
    return fail(ErrorCode::config, fmt::format("{} is out of range; allowed: {}ms to {}ms", text,
                                               low.count(), high.count()));
  }
  to = *value;
  return {};
}

Result<void> set_size(std::uint64_t& to, std::string_view text, std::uint64_t low,
                      std::uint64_t high) {
  const auto value = parse_size(text);
  if (!value) return std::unexpected(value.error());
  if (*value < low || *value > high) {
    return fail(ErrorCode::config,
                fmt::format("{} is out of range; allowed: {} to {} bytes", text, low, high));
  }
  to = *value;
  return {};
}

template <class E, std::size_t N>
Result<void> set_enum(E& to, std::string_view text,
                      const std::array<std::pair<std::string_view, E>, N>& names) {
  std::string allowed;
  for (const auto& [name, value] : names) {
    if (name == text) {
      to = value;
      return {};
    }
    allowed += (allowed.empty() ? "" : ", ") + std::string(name);
  }
  return fail(ErrorCode::config,
              fmt::format("'{}' is not allowed here; allowed: {}", text, allowed));
}

Result<void> set_text(std::string& to, std::string_view text) {
  to = text;
  return {};
}

Result<void> set_path(std::string& to, std::string_view text) {
  if (text.empty()) return fail(ErrorCode::config, "a path is needed here");
  return set_text(to, text);
}

// Setting a key of an exporter makes the exporter present.
template <class T>
T& present(std::optional<T>& exporter) {
  if (!exporter) exporter.emplace();
  return *exporter;
}
OtlpExporter& otlp(Config& c) { return present(c.exporters.otlp); }

constexpr std::uint64_t kKiB = 1024, kMiB = 1024 * kKiB, kGiB = 1024 * kMiB;
using Text = std::string_view;
using Ms = Milliseconds;

std::vector<Key> make_keys() {
  return {
      {"service_name", "string", "olly", "service.name of the agent's own telemetry",
       [](Config& c, Text t) { return set_text(c.service_name, t); }},
      {"log_level", "debug|info|warn|error", "info", "What the agent writes to stderr",
       [](Config& c, Text t) {
         return set_enum<LogLevel, 4>(c.log_level, t,
                                      {{{"debug", LogLevel::debug},
                                        {"info", LogLevel::info},
                                        {"warn", LogLevel::warn},
                                        {"error", LogLevel::error}}});
       }},
      {"hook.provider", "auto|ebpf|socket|stub", "auto",
       "Where events come from; auto takes the first that starts (socket: a later issue)",
       [](Config& c, Text t) {
         return set_enum<ProviderChoice, 4>(c.hook.provider, t,
                                            {{{"auto", ProviderChoice::automatic},
                                              {"ebpf", ProviderChoice::ebpf},
                                              {"socket", ProviderChoice::socket},
                                              {"stub", ProviderChoice::stub}}});
       }},
      {"hook.ebpf.capture", "auto|sockio|syscall", "auto",
       "Socket tracepoints (Linux 6.3 on) or system call tracepoints",
       [](Config& c, Text t) {
         return set_enum<CaptureChoice, 3>(c.hook.ebpf_capture, t,
                                           {{{"auto", CaptureChoice::automatic},
                                             {"sockio", CaptureChoice::sockio},
                                             {"syscall", CaptureChoice::syscall}}});
       }},
      {"tracing.enabled", "boolean", "true", "Whether spans are made",
       [](Config& c, Text t) { return set_bool(c.tracing.enabled, t); }},
      {"tracing.protocols.http1.enabled", "boolean", "true", "Whether HTTP/1 is parsed",
       [](Config& c, Text t) { return set_bool(c.tracing.protocols["http1"], t); }},
      {"tracing.link_wait", "duration", "2s",
       "How long a CLIENT span waits after its response for its parent (0ms to 60s)",
       [](Config& c, Text t) { return set_duration(c.tracing.link_wait, t, Ms(0), Ms(60'000)); }},
      {"capture.max_bytes_per_call", "size", "16KiB",
       "Bytes copied of one call at most (256 to 16KiB)",
       [](Config& c, Text t) { return set_size(c.capture.max_bytes_per_call, t, 256, 16 * kKiB); }},
      {"capture.memory", "size", "40MiB",
       "The agent's memory budget, ring buffers not included (8MiB to 4GiB)",
       [](Config& c, Text t) { return set_size(c.capture.memory, t, 8 * kMiB, 4 * kGiB); }},
      {"exporters.queue.size", "size", "32MiB",
       "Telemetry that waits for one destination (1MiB to 4GiB)",
       [](Config& c, Text t) { return set_size(c.exporters.queue_size, t, kMiB, 4 * kGiB); }},
      {"exporters.otlp.endpoint", "string", "localhost:4317 (http: localhost:4318)",
       "Base URL or host:port; the scheme decides on TLS",
       [](Config& c, Text t) { return set_path(otlp(c).endpoint, t); }},
      {"exporters.otlp.protocol", "grpc|http", "grpc", "OTLP/gRPC or OTLP/HTTP with protobuf",
       [](Config& c, Text t) {
         return set_enum<OtlpProtocol, 2>(
             otlp(c).protocol, t, {{{"grpc", OtlpProtocol::grpc}, {"http", OtlpProtocol::http}}});
       }},
      {"exporters.otlp.insecure", "boolean", "false", "No TLS, where the endpoint has no scheme",
       [](Config& c, Text t) { return set_bool(otlp(c).insecure, t); }},
      {"exporters.otlp.compression", "none|gzip|zstd", "gzip", "Of request bodies",
       [](Config& c, Text t) {
         return set_enum<Compression, 3>(otlp(c).compression, t,
                                         {{{"none", Compression::none},
                                           {"gzip", Compression::gzip},
                                           {"zstd", Compression::zstd}}});
       }},
      {"exporters.otlp.timeout", "duration", "10s", "Of one request (100ms to 10m)",
       [](Config& c, Text t) { return set_duration(otlp(c).timeout, t, Ms(100), Ms(600'000)); }},
      {"exporters.otlp.tls.ca_file", "string", "", "Certificates to trust instead of the system's",
       [](Config& c, Text t) { return set_path(otlp(c).tls.ca_file, t); }},
      {"exporters.otlp.tls.cert_file", "string", "", "Client certificate",
       [](Config& c, Text t) { return set_path(otlp(c).tls.cert_file, t); }},
      {"exporters.otlp.tls.key_file", "string", "", "Its key",
       [](Config& c, Text t) { return set_path(otlp(c).tls.key_file, t); }},
      {"exporters.file.path", "string", "", "File to append OTLP/JSON lines to",
       [](Config& c, Text t) { return set_path(present(c.exporters.file).path, t); }},
      {"exporters.file.rotate.size", "size", "", "Rotate when the file is larger (64KiB to 1TiB)",
       [](Config& c, Text t) {
         return set_size(present(c.exporters.file).rotate_size, t, 64 * kKiB, 1024 * kGiB);
       }},
      {"exporters.file.rotate.count", "integer", "5", "Rotated files to keep (1 to 1000)",
       [](Config& c, Text t) {
         std::uint64_t count = 0;
         auto done = set_size(count, t, 1, 1000);
         if (done) present(c.exporters.file).rotate_count = static_cast<std::uint32_t>(count);
         return done;
       }},
      {"exporters.stdout.format", "text|json", "text", "A tree per trace, or OTLP/JSON lines",
       [](Config& c, Text t) {
         return set_enum<StdoutFormat, 2>(
             present(c.exporters.stdout_).format, t,
             {{{"text", StdoutFormat::text}, {"json", StdoutFormat::json}}});
       }},
      {"metrics.interval", "duration", "60s", "Of the agent's own metrics over OTLP (100ms to 1h)",
       [](Config& c, Text t) {
         return set_duration(c.metrics.interval, t, Ms(100), Ms(3'600'000));
       }},
      {"health.enabled", "boolean", "true", "Whether the health server runs",
       [](Config& c, Text t) { return set_bool(c.health.enabled, t); }},
      {"health.address", "string", "127.0.0.1:8686", "Where it listens",
       [](Config& c, Text t) {
         if (t.rfind(':') == Text::npos) {
           return Result<void>(
               fail(ErrorCode::config, fmt::format("'{}' is no address; allowed: host:port", t)));
         }
         return set_path(c.health.address, t);
       }},
  };
}

constexpr std::array<std::string_view, 10> kUnsupported = {
    "logs",           "correlation",         "profiling",
    "discovery",      "redaction",           "hook.socket_path",
    "hook.on_demand", "tracing.propagation", "tracing.sampling",
    "metrics.host"};

}  // namespace

std::span<const Key> keys() {
  static const std::vector<Key> table = make_keys();
  return table;
}

std::span<const std::string_view> unsupported() { return kUnsupported; }

const Key* find_key(std::string_view path) {
  for (const Key& key : keys()) {
    if (key.path == path) return &key;
  }
  return nullptr;
}

}  // namespace olly::config
