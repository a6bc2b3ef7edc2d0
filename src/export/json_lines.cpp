#include "export/json_lines.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "export/otlp/constants.h"
#include "export/otlp/encoder.h"
#include "export/otlp/json.h"

namespace olly {

JsonLines::JsonLines(config::FileExporter file, std::shared_ptr<ExportCounters> counters)
    : file_(std::move(file)), counters_(std::move(counters)) {}

JsonLines::JsonLines(int fd, std::shared_ptr<ExportCounters> counters)
    : counters_(std::move(counters)), fd_(fd), borrowed_(true), regular_(is_regular_file(fd)) {}

JsonLines::~JsonLines() {
  if (borrowed_) fd_.release();
}

Result<void> JsonLines::open() {
  if (borrowed_) return {};
  // O_NONBLOCK: a FIFO without a reader is an error, not a wait.
  const int fd = ::open(file_.path.c_str(),
                        O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0640);
  if (fd < 0) {
    return fail(ErrorCode::io,
                fmt::format("exporters.file.path: {}: {}", file_.path, std::strerror(errno)),
                "the directory must exist and be writable");
  }
  fd_.reset(fd);
  struct stat info {};
  regular_ = ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
  size_ = regular_ ? static_cast<std::uint64_t>(info.st_size) : 0;
  torn_ = false;
  return {};
}

void JsonLines::follow_rename() {
  if (borrowed_ || !regular_) return;
  struct stat here {};
  struct stat there {};
  const bool same = ::fstat(fd_.get(), &here) == 0 && ::stat(file_.path.c_str(), &there) == 0 &&
                    here.st_ino == there.st_ino && here.st_dev == there.st_dev;
  if (same) return;
  if (auto done = open(); !done) warning_.say(done.error().message);
}

// path.1 is the newest of the rotated files.
void JsonLines::rotate() {
  if (file_.rotate_size == 0 || !regular_ || size_ == 0) return;
  if (size_ + line_.size() <= file_.rotate_size) return;
  for (std::uint32_t i = file_.rotate_count; i > 0; --i) {
    const std::string from = i == 1 ? file_.path : fmt::format("{}.{}", file_.path, i - 1);
    ::rename(from.c_str(), fmt::format("{}.{}", file_.path, i).c_str());
  }
  if (auto done = open(); !done) warning_.say(done.error().message);
}

bool JsonLines::write_or_take_back(const StopFlag& abort) {
  if (torn_) {
    // Ends the half line of an earlier failure, so that only that one cannot be read.
    if (write_all(fd_.get(), "\n", regular_, abort) != 1) return false;
    torn_ = false;
  }
  const std::size_t written = write_all(fd_.get(), line_.text(), regular_, abort);
  if (written == line_.size()) {
    size_ += written;
    return true;
  }
  const int why = errno;
  if (written != 0) {
    // A full disk: the torn line is taken back, so that the file stays readable.
    struct stat info {};
    torn_ = !regular_ || ::fstat(fd_.get(), &info) != 0 ||
            info.st_size < static_cast<off_t>(written) ||
            ::ftruncate(fd_.get(), info.st_size - static_cast<off_t>(written)) != 0;
  }
  errno = why;
  return false;
}

void JsonLines::write_line(std::size_t spans, std::size_t points, const StopFlag& abort) {
  line_.append('\n');
  rotate();
  const int error = write_or_take_back(abort) ? 0 : errno;
  const std::string exporter = borrowed_ ? "stdout" : fmt::format("file {}", file_.path);
  account_write(*counters_, warning_, exporter, spans, points, error);
}

void JsonLines::deliver_spans(const SpanBatch& batch, std::span<const std::uint32_t> spans,
                              const StopSignals& stop) {
  line_.clear();
  otlp::encode_json(batch, spans, line_);
  if (line_.size() >= otlp::kMaxRequestBytes && spans.size() > 1) {
    deliver_spans(batch, spans.first(spans.size() / 2), stop);
    deliver_spans(batch, spans.subspan(spans.size() / 2), stop);
    return;
  }
  write_line(spans.size(), 0, stop.abort);
}

void JsonLines::deliver(const ExportItem& item, const StopSignals& stop) {
  follow_rename();
  if (item.spans) {
    otlp::for_each_request(*item.spans, order_, [&](std::span<const std::uint32_t> spans) {
      deliver_spans(*item.spans, spans, stop);
    });
  } else if (item.metrics) {
    line_.clear();
    otlp::encode_json(*item.metrics, line_);
    write_line(0, item.point_count(), stop.abort);
  }
  line_.shrink(otlp::kKeepBuffer);
}

}  // namespace olly
