#include "export/json_lines.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/log.h"
#include "export/otlp/json.h"

namespace olly {

Result<void> JsonLines::open() {
  if (borrowed_) return {};
  fd_.reset(::open(file_.path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
  if (!fd_) {
    return fail(ErrorCode::io,
                fmt::format("exporters.file.path: {}: {}", file_.path, std::strerror(errno)),
                "the directory must exist and be writable");
  }
  struct stat info {};
  size_ = ::fstat(fd_.get(), &info) == 0 ? static_cast<std::uint64_t>(info.st_size) : 0;
  return {};
}

// path.1 is the newest of the rotated files.
void JsonLines::rotate() {
  for (std::uint32_t i = file_.rotate_count; i > 0; --i) {
    const std::string from = i == 1 ? file_.path : fmt::format("{}.{}", file_.path, i - 1);
    ::rename(from.c_str(), fmt::format("{}.{}", file_.path, i).c_str());
  }
  if (auto done = open(); !done) log::error("{}", done.error().message);
}

bool JsonLines::write(const ExportItem& item) {
  buffer_.clear();
  if (item.spans) {
    otlp::encode_json(*item.spans, buffer_);
  } else if (item.metrics) {
    otlp::encode_json(*item.metrics, buffer_);
  }
  buffer_.append('\n');
  if (file_.rotate_size != 0 && size_ != 0 && size_ + buffer_.size() > file_.rotate_size) rotate();
  std::string_view rest = buffer_.text();
  while (!rest.empty()) {
    const ssize_t n = ::write(fd_.get(), rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      // A full disk: the torn line is taken back, so that the file stays readable.
      const int error = errno;
      if (!borrowed_ && rest.size() < buffer_.size()) {
        [[maybe_unused]] const int ignored = ::ftruncate(fd_.get(), static_cast<off_t>(size_));
      }
      if (const Nanos now = monotonic_now(); complained_ == 0 || now - complained_ > 60 * kSecond) {
        complained_ = now;
        log::error("{} exporter: {}; telemetry is lost and counted", name(), std::strerror(error));
      }
      return false;
    }
    rest.remove_prefix(static_cast<std::size_t>(n));
  }
  size_ += buffer_.size();
  buffer_.shrink(8 * 1024 * 1024);
  return true;
}

}  // namespace olly
