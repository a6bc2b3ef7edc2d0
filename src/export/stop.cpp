#include "export/stop.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>

namespace olly {

int poll_timeout(Deadline deadline, Deadline now) noexcept {
  if (deadline <= now) return 0;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - now).count();
  return static_cast<int>(std::min<std::int64_t>(left, INT_MAX));
}

StopFlag::StopFlag() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

void StopFlag::set() noexcept {
  set_.store(true, std::memory_order_release);
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t ignored = ::write(fd_.get(), &one, sizeof one);
}

bool StopFlag::wait_until(Deadline deadline) const noexcept {
  pollfd p{fd_.get(), POLLIN, 0};
  while (!is_set()) {
    const int timeout = poll_timeout(deadline);
    if (timeout == 0) return false;
    // Without a descriptor poll() is a sleep: short ones, to look at the flag between them.
    ::poll(&p, 1, fd_ ? timeout : std::min(timeout, 100));
  }
  return true;
}

bool is_regular_file(int fd) noexcept {
  struct stat info {};
  return ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
}

std::size_t write_all(int fd, std::string_view bytes, bool regular,
                      const StopFlag& abort) noexcept {
  std::size_t done = 0;
  while (done < bytes.size()) {
    std::size_t piece = bytes.size() - done;
    if (!regular) {
      if (abort.is_set()) {
        errno = ECANCELED;
        return done;
      }
      pollfd wait[2] = {{fd, POLLOUT, 0}, {abort.fd(), POLLIN, 0}};
      if (::poll(wait, 2, 500) < 0 && errno != EINTR) return done;
      if (wait[0].revents == 0) continue;
      // A pipe that is ready has room for this much, so that a blocking one does not block.
      piece = std::min<std::size_t>(piece, PIPE_BUF);
    }
    const ssize_t n = ::write(fd, bytes.data() + done, piece);
    if (n < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      return done;
    }
    done += static_cast<std::size_t>(n);
  }
  return done;
}

}  // namespace olly
