// olly run: a program under observation from its first instruction. The child waits before exec
// until capture is attached and selects it; its descendants are selected by the kernel at fork.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "agent/agent.h"
#include "base/fd.h"
#include "base/log.h"
#include "cli/cli.h"

namespace olly::cli {
namespace {

constexpr int kFailed = 125;
constexpr int kNotExecutable = 126;
constexpr int kNotFound = 127;

// In the child: waits for the parent's go, then becomes the program. Reports errno of a failed
// exec.
[[noreturn]] void become(const std::vector<std::string>& program, int go, int report,
                         const sigset_t& signals) {
  char byte = 0;
  if (::read(go, &byte, 1) != 1) ::_exit(kFailed);  // the parent gave up
  pthread_sigmask(SIG_SETMASK, &signals, nullptr);
  std::vector<char*> arguments;
  for (const std::string& word : program) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  ::execvp(arguments[0], arguments.data());
  const int error = errno;
  [[maybe_unused]] const ssize_t ignored = ::write(report, &error, sizeof error);
  ::_exit(error == ENOENT ? kNotFound : kNotExecutable);
}

// Ctrl-C goes to the program's process group by itself; a SIGTERM to Olly is handed on.
int wait_for(pid_t child, const sigset_t& signals) {
  int status = 0;
  for (;;) {
    int received = 0;
    if (::waitpid(child, &status, WNOHANG) == child) return status;
    sigwait(&signals, &received);
    if (received == SIGTERM || received == SIGHUP) ::kill(child, received);
  }
}

// On disk, without a name.
UniqueFd temporary_file() {
  const char* folder = std::getenv("TMPDIR");
  std::string name = std::string(folder && *folder ? folder : "/tmp") + "/olly-XXXXXX";
  UniqueFd fd(::mkostemp(name.data(), O_CLOEXEC));
  if (fd) ::unlink(name.c_str());
  return fd;
}

void show(int fd) {
  char buffer[8192];
  off_t at = 0;
  for (ssize_t n = 0; (n = ::pread(fd, buffer, sizeof buffer, at)) > 0; at += n) {
    std::fwrite(buffer, 1, static_cast<std::size_t>(n), stderr);
  }
}

}  // namespace

int run_program(const Arguments& arguments, config::Config config) {
  config::Exporters& exporters = config.exporters;
  if (!arguments.output.empty()) {
    exporters.file = config::FileExporter{arguments.output, 0, 0};
    if (arguments.config_file.empty()) exporters.stdout_.reset();
  }
  UniqueFd text;
  if (exporters.stdout_) {
    // The program's stdout and stderr are its own: traces wait until it has ended.
    text = temporary_file();
    if (!text) {
      complain({ErrorCode::io, "cannot make a temporary file", {}});
      return kFailed;
    }
    exporters.stdout_->fd = text.get();
  }
  const bool health = !arguments.config_file.empty();
  if (log::level() == log::Level::info) log::set_level(log::Level::warn);

  sigset_t signals, before;
  sigemptyset(&signals);
  for (int s : {SIGINT, SIGTERM, SIGHUP, SIGCHLD}) sigaddset(&signals, s);
  pthread_sigmask(SIG_BLOCK, &signals, &before);
  int go[2], report[2];
  if (::pipe2(go, O_CLOEXEC) != 0 || ::pipe2(report, O_CLOEXEC) != 0) return kFailed;
  const pid_t child = ::fork();
  if (child < 0) return kFailed;
  if (child == 0) {
    ::close(go[1]);
    become(arguments.program, go[0], report[1], before);
  }
  ::close(go[0]);
  ::close(report[1]);
  UniqueFd release(go[1]), failure(report[0]);
  ::signal(SIGPIPE, SIG_IGN);

  agent::Agent agent({std::move(config), {static_cast<std::uint32_t>(child)}, health});
  if (auto done = agent.start(); !done) {
    release.reset();
    ::waitpid(child, nullptr, 0);
    const Error& error = done.error();
    const bool capture = error.code == ErrorCode::privilege || error.code == ErrorCode::unsupported;
    complain(error);
    fmt::print(
        stderr, "      the program was not started{}\n",
        capture ? "; observing without privileges, by libolly.so, is not supported yet" : "");
    return kFailed;
  }
  [[maybe_unused]] const ssize_t ignored = ::write(release.get(), "", 1);
  release.reset();
  int error = 0;
  if (::read(failure.get(), &error, sizeof error) == sizeof error) {
    fmt::print(stderr, "olly: {}: {}\n", arguments.program.front(), std::strerror(error));
  }
  const int status = wait_for(child, signals);
  agent.stop();
  if (text) show(text.get());
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace olly::cli
