#include "config/loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>

#include "config/schema.h"

namespace olly::config {
namespace {

std::string error_of(std::string_view yaml, const Environment& environment = {}) {
  const auto loaded = load(yaml, "olly.yaml", environment);
  return loaded ? "" : loaded.error().message;
}

TEST(Config, EmptyFileGivesTextOnStdout) {
  const auto loaded = load("", "olly.yaml", {});
  ASSERT_TRUE(loaded) << loaded.error().message;
  ASSERT_TRUE(loaded->config.exporters.stdout_);
  EXPECT_EQ(loaded->config.exporters.stdout_->format, StdoutFormat::text);
  EXPECT_FALSE(loaded->config.exporters.otlp);
  EXPECT_EQ(loaded->config.tracing.link_wait, Milliseconds(2000));
}

TEST(Config, ReadsEveryKindOfValue) {
  const auto loaded = load(R"(
hook:
  provider: ebpf
  ebpf: {capture: syscall}
  include: [{pid: 12}, {exe: /usr/bin/*}, {service: shop}]
tracing:
  link_wait: 500ms
  protocols: {http: {enabled: false}}
capture: {memory: 64MiB, max_bytes_per_call: 4KiB}
exporters:
  otlp: {endpoint: "https://collector:4317", headers: {a: b}, tls: {ca_file: ca.pem}}
  file: {path: out.json, rotate: {size: 1MiB}}
health: {enabled: false}
)",
                           "olly.yaml", {});
  ASSERT_TRUE(loaded) << loaded.error().message;
  const Config& c = loaded->config;
  EXPECT_EQ(c.hook.provider, ProviderChoice::ebpf);
  EXPECT_EQ(c.hook.ebpf_capture, CaptureChoice::syscall);
  ASSERT_EQ(c.hook.include.size(), 3u);
  EXPECT_EQ(c.hook.include[0].pid, 12u);
  EXPECT_EQ(c.hook.include[1].exe, "/usr/bin/*");
  EXPECT_EQ(c.hook.include[2].service, "shop");
  EXPECT_EQ(c.tracing.link_wait, Milliseconds(500));
  EXPECT_FALSE(c.tracing.protocols.at("http"));
  EXPECT_EQ(c.capture.memory, 64u << 20);
  EXPECT_EQ(c.capture.max_bytes_per_call, 4096u);
  EXPECT_EQ(c.exporters.otlp->headers.at(0).second, "b");
  EXPECT_EQ(c.exporters.otlp->tls.ca_file, "ca.pem");
  EXPECT_EQ(c.exporters.file->rotate_size, 1u << 20);
  EXPECT_EQ(c.exporters.file->rotate_count, 5u);
  EXPECT_FALSE(c.exporters.stdout_);
  EXPECT_FALSE(c.health.enabled);
}

// Every wrong file, with the whole message or its beginning (when that ends in "...").
struct Wrong {
  std::string_view yaml, message;
};
constexpr Wrong kWrong[] = {
    // keys
    {"hook:\n  provder: ebpf\n",
     "olly.yaml:2:3: unknown key 'hook.provder', did you mean 'provider'?; allowed: ebpf, exclude, "
     "include, on_demand, provider, socket, socket_path"},
    {"Log-Level: info\n", "olly.yaml:1:1: unknown key 'Log-Level', did you mean 'log_level'?..."},
    {"endpoint: x\n",
     "olly.yaml:1:1: unknown key 'endpoint', did you mean 'exporters.otlp.endpoint'?..."},
    {"tracing: {protocols: {http1: {enabled: true}}}\n",
     "olly.yaml:1:23: unknown key 'tracing.protocols.http1', did you mean 'http'?; allowed: ..."},
    {"zzzzzz: 1\n", "olly.yaml:1:1: unknown key 'zzzzzz'; allowed: capture, exporters, health..."},
    {"health: {enabled: true}\nhealth: {enabled: false}\n",
     "olly.yaml:2:1: duplicate key 'health'"},
    {"hook: {provider: ebpf, provider: ebpf}\n", "olly.yaml:1:24: duplicate key 'hook.provider'"},
    {"[a]: 1\n", "olly.yaml:1:1: a key must be a single word"},
    {"<<: {log_level: info}\n", "olly.yaml:1:1: unknown key '<<'..."},
    // not supported yet
    {"logs:\n  enabled: true\n", "olly.yaml:1:1: 'logs' is not supported yet"},
    {"hook: {on_demand: 3}\n", "olly.yaml:1:19: hook.on_demand: '3' is not a boolean..."},
    {"tracing: {propagation: {inject: '*'}}\n",
     "olly.yaml:1:33: tracing.propagation.inject: a list is needed here"},
    {"tracing: {propagation: {inject: [a b]}}\n",
     "olly.yaml:1:34: tracing.propagation.inject: 'a b' is no destination; allowed: '*', "
     "HOST[:PORT] with * and ?, ADDRESS[/BITS][:PORT], [V6ADDRESS[/BITS]]:PORT"},
    {"tracing: {propagation: {inject: [10.0.0.0/33]}}\n", "olly.yaml:1:34: ..."},
    {"tracing: {propagation: {inject: [a:0]}}\n", "olly.yaml:1:34: ..."},
    {"tracing: {propagation: {inject: [a:70000]}}\n", "olly.yaml:1:34: ..."},
    {"tracing: {propagation: {inject: ['[::1']}}\n", "olly.yaml:1:34: ..."},
    {"tracing: {propagation: {extract: []}}\n",
     "olly.yaml:1:25: unknown key 'tracing.propagation.extract'..."},
    {"hook: {provider: sockio}\n",
     "olly.yaml:1:18: hook.provider: 'sockio' is not allowed here; allowed: auto, ebpf, socket, "
     "stub"},
    {"hook: {socket_path: run/hook.sock}\n",
     "olly.yaml:1:21: hook.socket_path: 'run/hook.sock' is no path for a socket; allowed: an "
     "absolute path of at most 107 bytes"},
    // types
    {"- a\n", "olly.yaml:1:1: the file must be a mapping of keys to values"},
    {"just text\n", "olly.yaml:1:1: the file must be a mapping of keys to values"},
    {"hook: [1]\n", "olly.yaml:1:7: hook: keys are needed here, it is a section"},
    {"hook: yes\n", "olly.yaml:1:7: hook: keys are needed here, it is a section"},
    {"log_level: [info]\n", "olly.yaml:1:12: log_level: a single value is needed here, not a list"},
    {"log_level: {a: b}\n",
     "olly.yaml:1:12: log_level: a single value is needed here, not a mapping"},
    {"log_level: ~\n", "olly.yaml:1:12: log_level: a value is needed here"},
    {"tracing:\n  enabled: yes\n",
     "olly.yaml:2:12: tracing.enabled: 'yes' is not a boolean; allowed: true, false"},
    {"log_level: verbose\n",
     "olly.yaml:1:12: log_level: 'verbose' is not allowed here; allowed: debug, info, warn, error"},
    {"hook: {ebpf: {capture: kprobe}}\n",
     "olly.yaml:1:24: hook.ebpf.capture: 'kprobe' is not allowed here; allowed: auto, sockio, "
     "syscall"},
    // durations, sizes, numbers, addresses
    {"tracing: {link_wait: 2}\n",
     "olly.yaml:1:22: tracing.link_wait: '2' is not a duration; allowed: 500ms, 10s, 1m, 2h"},
    {"tracing: {link_wait: 2 weeks}\n", "olly.yaml:1:22: tracing.link_wait: '2 weeks' is not a..."},
    {"tracing: {link_wait: -1s}\n",
     "olly.yaml:1:22: tracing.link_wait: '-1s' is not a duration..."},
    {"tracing: {link_wait: 2m}\n",
     "olly.yaml:1:22: tracing.link_wait: 2m is out of range; allowed: 0ms to 1m"},
    {"capture: {memory: 40MB}\n",
     "olly.yaml:1:19: capture.memory: '40MB' is not a size; allowed: 512, 64KiB, 40MiB, 1GiB"},
    {"capture: {memory: 1KiB}\n",
     "olly.yaml:1:19: capture.memory: 1KiB is out of range; allowed: 8MiB to 4GiB"},
    {"capture: {memory: 99999999999999999999}\n", "olly.yaml:1:19: capture.memory: '9999..."},
    {"capture: {memory: 18014398509481984KiB}\n", "olly.yaml:1:19: capture.memory: '1801..."},
    {"exporters: {file: {path: a, rotate: {size: 1MiB, count: 2KiB}}}\n",
     "olly.yaml:1:57: exporters.file.rotate.count: '2KiB' is not allowed here; allowed: 1 to 1000"},
    {"health: {address: localhost}\n",
     "olly.yaml:1:19: health.address: 'localhost' is no address..."},
    {"health: {address: \"localhost:99999\"}\n",
     "olly.yaml:1:19: health.address: 'localhost:99999'..."},
    {"health: {address: \"::1:8686\"}\n",
     "olly.yaml:1:19: health.address: '::1:8686' is no address..."},
    {"exporters: {otlp: {endpoint: \"\"}}\n",
     "olly.yaml:1:30: exporters.otlp.endpoint: an empty value is not allowed here"},
    // lists and maps
    {"hook: {include: {pid: 1}}\n",
     "olly.yaml:1:17: hook.include: allowed: a list of {pid: N}, {exe: GLOB} or {service: NAME}"},
    {"hook: {include: [12]}\n", "olly.yaml:1:18: hook.include: allowed: a list..."},
    {"hook: {include: [{pid: 1, exe: /a}]}\n", "olly.yaml:1:18: hook.include: allowed: a list..."},
    {"hook: {include: [{pid: x}]}\n", "olly.yaml:1:24: hook.include: 'x' is not a process id"},
    {"hook: {include: [{pid: 0}]}\n", "olly.yaml:1:24: hook.include: '0' is not a process id"},
    {"hook: {exclude: [{exe: nginx}]}\n",
     "olly.yaml:1:24: hook.exclude: 'nginx' never matches an absolute path; write '*/nginx'"},
    {"hook: {exclude: [{service: ''}]}\n", "olly.yaml:1:28: hook.exclude: a name is needed here"},
    {"hook: {exclude: [{name: a}]}\n", "olly.yaml:1:19: hook.exclude: unknown key 'name'..."},
    {"exporters: {otlp: {headers: [a]}}\n",
     "olly.yaml:1:29: exporters.otlp.headers: allowed: {name: value}"},
    {"exporters: {otlp: {headers: {a: b, A: c}}}\n", "olly.yaml:1:36: duplicate header 'A'"},
    {"exporters: {otlp: {headers: {a b: c}}}\n",
     "olly.yaml:1:30: exporters.otlp.headers: a header's name may hold..."},
    {"exporters: {otlp: {headers: {a: \"s3cret\\r\\nX: y\"}}}\n",
     "olly.yaml:1:30: exporters.otlp.headers: the value of header 'a' must not hold control "
     "characters"},
    // what only shows when everything is there
    {"exporters:\n  file: {}\n", "olly.yaml:2:3: exporters.file needs a path"},
    {"exporters:\n  file: {path: a, rotate: {count: 3}}\n",
     "olly.yaml:2:28: exporters.file.rotate.count has no effect without rotate.size"},
    {"exporters:\n  otlp:\n    tls: {cert_file: a}\n",
     "olly.yaml:3:5: exporters.otlp.tls needs cert_file and key_file together"},
    // variables
    {"service_name: ${MISSING}\n",
     "olly.yaml:1:15: the variable MISSING is not set; write ${MISSING:-default} to allow that"},
    {"service_name: ${A\n", "olly.yaml:1:15: ${ without its }"},
    {"service_name: ${A:-${B}}\n", "olly.yaml:1:15: allowed: ${VAR} or ${VAR:-default}, not..."},
    {"service_name: ${}\n", "olly.yaml:1:15: allowed: ${VAR} or ${VAR:-default}, not nested..."},
    // no YAML
    {"a: [\n", "olly.yaml:2:1: ..."},
    {"log_level: info\n\tx: 1\n", "olly.yaml:2:..."},
    {"log_level: *nowhere\n", "olly.yaml:1:12: ..."},
    {"log_level: info\n---\nlog_level: warn\n",
     "olly.yaml:3:1: a second document (after ---) is not allowed"},
};

TEST(Config, ErrorsNameTheirPlace) {
  for (const Wrong& c : kWrong) {
    const std::string message = error_of(c.yaml);
    if (c.message.ends_with("...")) {
      EXPECT_EQ(message.substr(0, c.message.size() - 3), c.message.substr(0, c.message.size() - 3))
          << c.yaml;
    } else {
      EXPECT_EQ(message, c.message) << c.yaml;
    }
  }
}

TEST(Config, EverythingLaterIsRefused) {
  for (const std::string_view path : unsupported()) {
    std::string yaml, closing;
    std::string_view rest = path;
    for (std::size_t dot = 0; (dot = rest.find('.')) != std::string_view::npos;) {
      yaml += "{" + std::string(rest.substr(0, dot)) + ": ";
      closing += "}";
      rest.remove_prefix(dot + 1);
    }
    yaml += "{" + std::string(rest) + ": {a: 1}}" + closing;
    EXPECT_NE(error_of(yaml).find("'" + std::string(path) + "' is not supported yet"),
              std::string::npos)
        << yaml;
  }
}

// A hostile file costs a message, not the process.
TEST(Config, HostileFiles) {
  EXPECT_NE(error_of(std::string(200'000, '[')), "");
  EXPECT_NE(error_of("a: " + std::string(200'000, '{')), "");
  std::string deep;
  for (int i = 0; i < 2000; ++i) deep += std::string(static_cast<std::size_t>(i), ' ') + "a:\n";
  EXPECT_NE(error_of(deep.substr(0, 1'000'000)), "");
  EXPECT_EQ(error_of(std::string(kMaxText + 1, '#')),
            "olly.yaml:1:1: larger than 1MiB, which no configuration is");
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 30; ++i) {
    const std::string last = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int k = 0; k < 10; ++k) bomb += (k ? ", " : "") + last;
    bomb += "]\n";
  }
  EXPECT_EQ(error_of(bomb).substr(0, 33), "olly.yaml:1:1: unknown key 'a0'; ");
  EXPECT_NE(error_of("hook: {include: &a [*a]}"), "");
  EXPECT_NE(error_of(std::string_view("\xff\xfe\x00\x01z", 5)), "");
  EXPECT_NE(error_of(std::string_view("log_level: in\0fo", 16)), "");
}

TEST(Config, EmptyFilesAreFine) {
  for (const std::string_view yaml :
       {"", "\n", "# nothing\n", "---\n", "{}", "\xef\xbb\xbf", "hook:\nexporters:\n  stdout:\n"}) {
    EXPECT_EQ(error_of(yaml), "") << yaml;
  }
}

TEST(Config, AliasesAreValues) {
  const auto loaded = load("log_level: &l warn\nservice_name: *l\r\n", "olly.yaml", {});
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded->config.service_name, "warn");
}

TEST(Config, Files) {
  const auto error = [](const std::string& path) {
    const auto loaded = load_file(path, {});
    if (loaded) return std::string();
    EXPECT_EQ(loaded.error().code, ErrorCode::config);
    return loaded.error().message;
  };
  EXPECT_EQ(error("/no/such/olly.yaml"), "/no/such/olly.yaml: No such file or directory");
  EXPECT_EQ(error("/tmp"), "/tmp: Is a directory");
  EXPECT_EQ(error("/dev/zero"), "/dev/zero:1:1: larger than 1MiB, which no configuration is");
  EXPECT_EQ(error("/dev/null"), "");
}

TEST(Config, ExpandsVariables) {
  const auto loaded = load("service_name: ${A}-${B:-b}-$$x\n", "olly.yaml", {{"A", "a"}});
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded->config.service_name, "a-b-$x");
}

TEST(Config, EnvironmentOverrides) {
  const auto loaded = load("exporters: {stdout: {format: text}}\n", "olly.yaml",
                           {{"OLLY_EXPORTERS_FILE_PATH", "/x/y"},
                            {"OLLY_NO_SUCH", "1"},
                            {"OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4318"},
                            {"OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"},
                            {"OTEL_EXPORTER_OTLP_HEADERS", "k=v%20w"},
                            {"OTEL_EXPORTER_OTLP_TIMEOUT", "1500"},
                            {"OTEL_SERVICE_NAME", "me"},
                            {"OTEL_RESOURCE_ATTRIBUTES", "a=b,service.name=other"}});
  ASSERT_TRUE(loaded) << loaded.error().message;
  const Config& c = loaded->config;
  EXPECT_EQ(c.exporters.file->path, "/x/y");
  ASSERT_EQ(loaded->warnings.size(), 1u);
  EXPECT_NE(loaded->warnings[0].find("OLLY_NO_SUCH"), std::string::npos);
  EXPECT_EQ(c.exporters.otlp->endpoint, "http://h:4318");
  EXPECT_EQ(c.exporters.otlp->protocol, OtlpProtocol::http);
  EXPECT_EQ(c.exporters.otlp->headers.at(0).second, "v w");
  EXPECT_EQ(c.exporters.otlp->timeout, Milliseconds(1500));
  EXPECT_EQ(c.service_name, "me");
  EXPECT_EQ(c.resource_attributes.at(0).first, "a");
}

// The name of each key's variable, and that it reaches the key's setter.
TEST(Config, EveryKeyHasItsVariable) {
  for (const Key& key : keys()) {
    std::string variable = "OLLY_";
    for (const char c : key.path) variable += c == '.' ? '_' : static_cast<char>(std::toupper(c));
    EXPECT_TRUE(error_of("", {{variable, ""}}).empty()) << variable;
    if (key.type == "string") continue;
    EXPECT_TRUE(error_of("", {{variable, "x"}}).starts_with(variable + ": 'x' is not "))
        << variable;
  }
}

TEST(Config, VariablesOfListsAndLaterKeys) {
  const auto loaded = load("", "olly.yaml",
                           {{"OLLY_HOOK_INCLUDE", "[{exe: /opt/*}, {pid: 7}]"},
                            {"OLLY_EXPORTERS_OTLP_HEADERS", "{api-key: k}"},
                            {"OLLY_HOOK_SOCKET_PATH", "/run/x"}});
  ASSERT_TRUE(loaded) << loaded.error().message;
  ASSERT_EQ(loaded->config.hook.include.size(), 2u);
  EXPECT_EQ(loaded->config.hook.include[1].pid, 7u);
  EXPECT_EQ(loaded->config.exporters.otlp->headers.at(0).second, "k");
  EXPECT_TRUE(loaded->warnings.empty());
  EXPECT_EQ(loaded->config.hook.socket_path, "/run/x");
  EXPECT_EQ(error_of("", {{"OLLY_HOOK_INCLUDE", "[1]"}}).substr(0, 37),
            "OLLY_HOOK_INCLUDE:1:2: hook.include: ");
  EXPECT_EQ(error_of("", {{"OLLY_LOGS_ENABLED", "true"}}),
            "OLLY_LOGS_ENABLED: 'logs' is not supported yet");
  EXPECT_EQ(error_of("", {{"OLLY_EXPORTERS_FILE_ROTATE_SIZE", "1MiB"}}),
            "OLLY_EXPORTERS_FILE_ROTATE_SIZE: exporters.file needs a path");
}

TEST(Config, LaterSourcesWin) {
  const auto loaded = load(
      "service_name: file\nexporters: {otlp: {timeout: 1s, headers: {A: file}}}\n", "olly.yaml",
      {{"OTEL_SERVICE_NAME", "otel"},
       {"OLLY_SERVICE_NAME", "olly"},
       {"OTEL_EXPORTER_OTLP_TIMEOUT", "2000"},
       {"OLLY_EXPORTERS_OTLP_TIMEOUT", "3s"},
       {"OTEL_EXPORTER_OTLP_HEADERS", "a=otel"}});
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded->config.service_name, "olly");
  EXPECT_EQ(loaded->config.exporters.otlp->timeout, Milliseconds(3000));
  ASSERT_EQ(loaded->config.exporters.otlp->headers.size(), 1u);
  EXPECT_EQ(loaded->config.exporters.otlp->headers[0].second, "otel");
}

TEST(Config, WrongOtelVariablesAreWarnings) {
  const Environment wrong = {{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4318"},
                             {"OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"},
                             {"OTEL_EXPORTER_OTLP_TIMEOUT", "soon"},
                             {"OTEL_EXPORTER_OTLP_COMPRESSION", "lz4"},
                             {"OTEL_EXPORTER_OTLP_HEADERS", "novalue"},
                             {"OTEL_RESOURCE_ATTRIBUTES", "a=b,c"},
                             {"OTEL_METRIC_EXPORT_INTERVAL", "1"}};
  const auto loaded = load("", "olly.yaml", wrong);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded->warnings.size(), wrong.size() - 1);
  for (const auto& [variable, value] : wrong) {
    if (variable == "OTEL_EXPORTER_OTLP_ENDPOINT") continue;
    EXPECT_TRUE(std::ranges::any_of(loaded->warnings, [&variable](const std::string& w) {
      return w.starts_with(variable + " is ignored: ");
    })) << variable;
  }
  EXPECT_TRUE(loaded->config.resource_attributes.empty());
}

}  // namespace
}  // namespace olly::config
