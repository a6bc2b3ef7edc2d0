#include "config/loader.h"

#include <gtest/gtest.h>

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
  protocols: {http1: {enabled: false}}
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
  EXPECT_FALSE(c.tracing.protocols.at("http1"));
  EXPECT_EQ(c.capture.memory, 64u << 20);
  EXPECT_EQ(c.capture.max_bytes_per_call, 4096u);
  EXPECT_EQ(c.exporters.otlp->headers.at(0).second, "b");
  EXPECT_EQ(c.exporters.otlp->tls.ca_file, "ca.pem");
  EXPECT_EQ(c.exporters.file->rotate_size, 1u << 20);
  EXPECT_EQ(c.exporters.file->rotate_count, 5u);
  EXPECT_FALSE(c.exporters.stdout_);
  EXPECT_FALSE(c.health.enabled);
}

TEST(Config, ErrorsNameTheirPlace) {
  EXPECT_EQ(error_of("hook:\n  provder: ebpf\n"),
            "olly.yaml:2:3: unknown key 'hook.provder', did you mean 'provider'?; allowed: ebpf, "
            "exclude, include, provider");
  EXPECT_EQ(error_of("tracing:\n  enabled: yes\n"),
            "olly.yaml:2:12: tracing.enabled: 'yes' is not a boolean; allowed: true, false");
  EXPECT_EQ(error_of("health: {enabled: true}\nhealth: {enabled: false}\n"),
            "olly.yaml:2:1: duplicate key 'health'");
  EXPECT_EQ(error_of("logs:\n  enabled: true\n"), "olly.yaml:1:1: 'logs' is not supported yet");
  EXPECT_EQ(error_of("capture: {memory: 1KiB}\n").substr(0, 18), "olly.yaml:1:19: ca");
  EXPECT_NE(error_of("hook: [1]\n").find("olly.yaml:1:7"), std::string::npos);
  EXPECT_NE(error_of("a: [\n").find("olly.yaml:"), std::string::npos);
  EXPECT_NE(error_of("exporters: {file: {}}\n").find("needs a path"), std::string::npos);
}

TEST(Config, ExpandsVariables) {
  const auto loaded = load("service_name: ${A}-${B:-b}-$$x\n", "olly.yaml", {{"A", "a"}});
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded->config.service_name, "a-b-$x");
  EXPECT_NE(error_of("service_name: ${MISSING}\n").find("MISSING is not set"), std::string::npos);
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

}  // namespace
}  // namespace olly::config
