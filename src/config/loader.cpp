#include "config/loader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/fd.h"
#include "config/environment.h"
#include "config/yaml_reader.h"

namespace olly::config {
namespace {

constexpr std::uint32_t kRotateCount = 5;  // exporters.file.rotate.count

// What only shows when everything is there.
Result<void> finish(Config& config, const Places& places) {
  const auto error = [&places](std::string_view path, std::string_view message) {
    const auto place = places.find(path);
    return fail(ErrorCode::config, place == places.end()
                                       ? fmt::format("{}{}", path, message)
                                       : fmt::format("{}: {}{}", place->second, path, message));
  };
  Exporters& e = config.exporters;
  if (e.file && e.file->path.empty()) return error("exporters.file", " needs a path");
  if (e.file && e.file->rotate_size == 0 && e.file->rotate_count != 0) {
    return error("exporters.file.rotate.count", " has no effect without rotate.size");
  }
  if (e.file && e.file->rotate_size != 0 && e.file->rotate_count == 0) {
    e.file->rotate_count = kRotateCount;
  }
  if (e.otlp && e.otlp->tls.cert_file.empty() != e.otlp->tls.key_file.empty()) {
    return error("exporters.otlp.tls", " needs cert_file and key_file together");
  }
  if (e.otlp && e.otlp->endpoint.empty() && !e.otlp->traces.endpoint && !e.otlp->metrics.endpoint) {
    e.otlp->endpoint =
        e.otlp->protocol == OtlpProtocol::grpc ? "http://localhost:4317" : "http://localhost:4318";
  }
  if (!e.otlp && !e.file && !e.stdout_) e.stdout_.emplace();
  return {};
}

}  // namespace

Result<Loaded> load(std::string_view yaml, std::string_view name, const Environment& environment) {
  if (yaml.size() > kMaxText) {
    return fail(ErrorCode::config, fmt::format("{}:1:1: larger than {}, which no configuration is",
                                               name, size_text(kMaxText)));
  }
  Loaded loaded;
  Places places;
  if (auto done = read_yaml(yaml, name, environment, loaded.config, places); !done) {
    return std::unexpected(done.error());
  }
  if (auto done = apply_environment(loaded, environment, places); !done) {
    return std::unexpected(done.error());
  }
  if (auto done = finish(loaded.config, places); !done) return std::unexpected(done.error());
  return loaded;
}

Result<Loaded> load_file(const std::string& path, const Environment& environment) {
  const auto unreadable = [&path] {
    return fail(ErrorCode::config, fmt::format("{}: {}", path, std::strerror(errno)),
                errno == EACCES ? "olly must be allowed to read its configuration" : "");
  };
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return unreadable();
  std::string text;
  char chunk[16 * 1024];
  for (ssize_t n = 0; (n = ::read(fd.get(), chunk, sizeof chunk)) != 0;) {
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return unreadable();
    text.append(chunk, static_cast<std::size_t>(n));
    if (text.size() > kMaxText) break;
  }
  return load(text, path, environment);
}

}  // namespace olly::config
