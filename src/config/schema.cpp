#include "config/schema.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

#include "config/loader.h"
#include "protocol/names.h"

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
    return fail(ErrorCode::config, fmt::format("{} is out of range; allowed: {} to {}", text,
                                               duration_text(low), duration_text(high)));
  }
  to = *value;
  return {};
}

Result<void> set_size(std::uint64_t& to, std::string_view text, std::uint64_t low,
                      std::uint64_t high) {
  const auto value = parse_size(text);
  if (!value) return std::unexpected(value.error());
  if (*value < low || *value > high) {
    return fail(ErrorCode::config, fmt::format("{} is out of range; allowed: {} to {}", text,
                                               size_text(low), size_text(high)));
  }
  to = *value;
  return {};
}

Result<void> set_integer(std::uint32_t& to, std::string_view text, std::uint32_t low,
                         std::uint32_t high) {
  std::uint32_t value = 0;
  const auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (bad != std::errc{} || end != text.data() + text.size() || value < low || value > high) {
    return fail(ErrorCode::config,
                fmt::format("'{}' is not allowed here; allowed: {} to {}", text, low, high));
  }
  to = value;
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

Result<void> set_filled(std::string& to, std::string_view text) {
  if (text.empty()) return fail(ErrorCode::config, "an empty value is not allowed here");
  return set_text(to, text);
}

Result<void> set_socket_path(std::string& to, std::string_view text) {
  constexpr std::size_t kLongest = 107;  // sockaddr_un
  if (!text.starts_with('/') || text.size() > kLongest) {
    return fail(ErrorCode::config,
                fmt::format("'{}' is no path for a socket; allowed: an absolute path of at most {} "
                            "bytes",
                            text, kLongest));
  }
  return set_text(to, text);
}

// host:port, [v6]:port, or :port for every interface.
Result<void> set_listen_address(std::string& to, std::string_view text) {
  const auto colon = text.rfind(':');
  std::uint32_t port = 0;
  const bool ok =
      colon != std::string_view::npos && set_integer(port, text.substr(colon + 1), 1, 65535);
  const std::string_view host = text.substr(0, ok ? colon : 0);
  const bool bracketed = host.starts_with('[') && host.ends_with(']');
  if (!ok || (host.find(':') != std::string_view::npos && !bracketed)) {
    return fail(ErrorCode::config,
                fmt::format("'{}' is no address; allowed: HOST:PORT or [HOST]:PORT, with a port of "
                            "1 to 65535",
                            text));
  }
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
  std::vector<Key> keys = {
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
       "Where events come from: the kernel, programs that run with libolly.so (`socket`), nowhere; "
       "auto takes the first that starts, in this order, and says why not the better one (beside "
       "the "
       "kernel's socket tracepoints programs with libolly.so may report, too)",
       [](Config& c, Text t) {
         return set_enum<ProviderChoice, 4>(c.hook.provider, t,
                                            {{{"auto", ProviderChoice::automatic},
                                              {"ebpf", ProviderChoice::ebpf},
                                              {"socket", ProviderChoice::socket},
                                              {"stub", ProviderChoice::stub}}});
       }},
      {"hook.socket_path", "string", "/run/olly/hook.sock",
       "Where programs with libolly.so report (they read OLLY_HOOK_SOCKET_PATH; for a user without "
       "privileges the default is $XDG_RUNTIME_DIR/olly/hook.sock)",
       [](Config& c, Text t) { return set_socket_path(c.hook.socket_path, t); }},
      {"hook.on_demand", "boolean", "false",
       "Whether capture waits for `olly trace start` (start, stop and status reach the agent at "
       "hook.socket_path with .control behind it)",
       [](Config& c, Text t) { return set_bool(c.hook.on_demand, t); }},
      {"hook.socket.ring_size", "size", "512KiB",
       "Ring of each thread of a program that `olly run` starts with libolly.so, rounded down to a "
       "power of two (32KiB to 16MiB; other programs read OLLY_HOOK_SOCKET_RING_SIZE)",
       [](Config& c, Text t) {
         return set_size(c.hook.socket_ring_size, t, 32 * kKiB, 16 * kMiB);
       }},
      {"hook.socket.attach_wait", "duration", "200ms",
       "With tracing.propagation.inject: how long a program that `olly run` starts with libolly.so "
       "waits at most, once, at its first connection, for the agent to say so (0ms to 10s; other "
       "programs read OLLY_HOOK_SOCKET_ATTACH_WAIT, and do not wait without it)",
       [](Config& c, Text t) {
         return set_duration(c.hook.socket_attach_wait, t, Ms(0), Ms(10'000));
       }},
      {"hook.ebpf.capture", "auto|sockio|syscall", "auto",
       "Socket tracepoints (Linux 6.3 on) or system call tracepoints",
       [](Config& c, Text t) {
         return set_enum<CaptureChoice, 3>(c.hook.ebpf_capture, t,
                                           {{{"auto", CaptureChoice::automatic},
                                             {"sockio", CaptureChoice::sockio},
                                             {"syscall", CaptureChoice::syscall}}});
       }},
      {"hook.ebpf.tls.enabled", "boolean", "true",
       "Plaintext of TLS, by probes in the libraries' functions",
       [](Config& c, Text t) { return set_bool(c.hook.ebpf_tls, t); }},
      {"hook.ebpf.tls.expensive_probes", "boolean", "false",
       "Probes where the kernel single-steps, some 10 us a call, in libraries that offer no other "
       "place (GnuTLS)",
       [](Config& c, Text t) { return set_bool(c.hook.ebpf_tls_expensive, t); }},
      {"hook.ebpf.tls.max_files", "integer", "64",
       "Library files that are probed at a time (1 to 1024); each serves every process that uses "
       "it",
       [](Config& c, Text t) { return set_integer(c.hook.ebpf_tls_max_files, t, 1, 1024); }},
      {"hook.ebpf.ring_size", "size", "4MiB",
       "Of each CPU's buffer of I/O records, rounded down to a power of two; all together at most "
       "64MiB (64KiB to 64MiB)",
       [](Config& c, Text t) { return set_size(c.hook.ebpf_ring_size, t, 64 * kKiB, 64 * kMiB); }},
      {"tracing.enabled", "boolean", "true", "Whether spans are made",
       [](Config& c, Text t) { return set_bool(c.tracing.enabled, t); }},
      {"tracing.link_wait", "duration", "2s",
       "How long a CLIENT span waits after its response for its parent (0ms to 60s)",
       [](Config& c, Text t) { return set_duration(c.tracing.link_wait, t, Ms(0), Ms(60'000)); }},
      {"capture.max_bytes_per_call", "size", "1MiB",
       "Bytes copied of one call at most (256 to 1MiB); 16KiB while the protocol is not known, and "
       "with libolly.so; of protocols that need the beginning only, less",
       [](Config& c, Text t) { return set_size(c.capture.max_bytes_per_call, t, 256, kMiB); }},
      {"capture.memory", "size", "40MiB",
       "The agent's memory budget, ring buffers not included (8MiB to 4GiB)",
       [](Config& c, Text t) { return set_size(c.capture.memory, t, 8 * kMiB, 4 * kGiB); }},
      {"exporters.queue.size", "size", "32MiB",
       "Telemetry that waits for one destination (1MiB to 4GiB)",
       [](Config& c, Text t) { return set_size(c.exporters.queue_size, t, kMiB, 4 * kGiB); }},
      {"exporters.otlp.endpoint", "string", "http://localhost:4317 (http: http://localhost:4318)",
       "Base URL or host:port; the scheme decides on TLS",
       [](Config& c, Text t) { return set_filled(otlp(c).endpoint, t); }},
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
       [](Config& c, Text t) { return set_filled(otlp(c).tls.ca_file, t); }},
      {"exporters.otlp.tls.cert_file", "string", "", "Client certificate",
       [](Config& c, Text t) { return set_filled(otlp(c).tls.cert_file, t); }},
      {"exporters.otlp.tls.key_file", "string", "", "Its key",
       [](Config& c, Text t) { return set_filled(otlp(c).tls.key_file, t); }},
      {"exporters.file.path", "string", "", "File to append OTLP/JSON lines to",
       [](Config& c, Text t) { return set_filled(present(c.exporters.file).path, t); }},
      {"exporters.file.rotate.size", "size", "", "Rotate when the file is larger (64KiB to 1TiB)",
       [](Config& c, Text t) {
         return set_size(present(c.exporters.file).rotate_size, t, 64 * kKiB, 1024 * kGiB);
       }},
      {"exporters.file.rotate.count", "integer", "5",
       "Rotated files to keep (1 to 1000); needs rotate.size",
       [](Config& c, Text t) {
         return set_integer(present(c.exporters.file).rotate_count, t, 1, 1000);
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
      {"health.address", "string", "127.0.0.1:8686", "Where it listens: HOST:PORT",
       [](Config& c, Text t) { return set_listen_address(c.health.address, t); }},
  };
  // One for each protocol of the registry, behind tracing.enabled.
  auto at = keys.begin() + 1;
  while ((at - 1)->path != "tracing.enabled") ++at;
  for (const ProtocolInfo& protocol : protocols()) {
    const std::string_view name = protocol.name;
    at = 1 + keys.insert(at, {fmt::format("tracing.protocols.{}.enabled", name), "boolean", "true",
                              "Whether this protocol is parsed", [name](Config& c, Text t) {
                                return set_bool(c.tracing.protocols[std::string(name)], t);
                              }});
  }
  return keys;
}

constexpr std::array<Structure, 4> kStructures = {{
    {"hook.include", "list of selectors", "",
     "Which processes to observe; empty: every one but the agent"},
    {"hook.exclude", "list of selectors", "", "Which of them to leave out"},
    {"tracing.propagation.inject", "list of destinations", "",
     "Into whose HTTP/1 requests libolly.so puts a `traceparent`: `'*'`, HOST[:PORT] with `*` and "
     "`?`, ADDRESS[/BITS][:PORT]; at most 24"},
    {"exporters.otlp.headers", "map of name to value", "", "Sent with every request"},
}};

constexpr std::array<std::string_view, 7> kUnsupported = {
    "logs",      "correlation",      "profiling",   "discovery",
    "redaction", "tracing.sampling", "metrics.host"};

}  // namespace

std::span<const Key> keys() {
  static const std::vector<Key> table = make_keys();
  return table;
}

std::span<const Structure> structures() { return kStructures; }
std::span<const std::string_view> unsupported() { return kUnsupported; }

bool is_under(std::string_view path, std::string_view section) noexcept {
  return path == section ||
         (path.starts_with(section) && path.size() > section.size() && path[section.size()] == '.');
}

bool is_unsupported(std::string_view path) noexcept {
  return std::ranges::any_of(kUnsupported, [&](auto later) { return is_under(path, later); });
}

const Key* find_key(std::string_view path) {
  for (const Key& key : keys()) {
    if (key.path == path) return &key;
  }
  return nullptr;
}

}  // namespace olly::config
