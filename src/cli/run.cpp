// olly run: a program under observation from its first instruction. The child waits before exec
// until capture is attached and selects it; its descendants are selected by the kernel at fork, or
// inherit libolly.so with their environment.
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
#include "cli/preloading.h"

namespace olly::cli {
namespace {

constexpr int kFailed = 125;
constexpr int kNotExecutable = 126;
constexpr int kNotFound = 127;

// What the parent tells the child when it may go.
constexpr char kAsItIs = 0;
constexpr char kWithLibrary = 1;

// In the child: waits for the parent's go, then becomes the program. Reports errno of a failed
// exec.
[[noreturn]] void become(const std::vector<std::string>& program,
                         const std::vector<Setting>& library, int go, int report,
                         const sigset_t& signals) {
  char byte = kAsItIs;
  if (::read(go, &byte, 1) != 1) ::_exit(kFailed);  // the parent gave up
  if (byte == kWithLibrary) {
    for (const Setting& s : library) ::setenv(s.name.c_str(), s.value.c_str(), 1);
  }
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

// Why not by libolly.so, either.
void explain_library(const Result<void>& takes, const std::string& library) {
  if (!takes) {
    fmt::print(stderr, "      {}\n      {}\n", takes.error().message, takes.error().hint);
  } else if (library.empty()) {
    fmt::print(stderr,
               "      without privileges libolly.so could do it: it is not beside olly, nor in "
               "../lib (make hook builds it)\n");
  }
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
  // Whether libolly.so can do it where the kernel cannot.
  const PrivateFolder folder;
  const std::string found = find_program(arguments.program.front());
  const std::string library_path = find_library();
  const Result<void> takes = found.empty() ? Result<void>() : takes_library(found);
  const bool possible = takes && !library_path.empty() && !folder.socket().empty();
  const auto library = preload_settings(library_path, folder.socket(), config);
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
    become(arguments.program, library, go[0], report[1], before);
  }
  ::close(go[0]);
  ::close(report[1]);
  UniqueFd release(go[1]), failure(report[0]);
  ::signal(SIGPIPE, SIG_IGN);

  agent::Agent agent({std::move(config),
                      {static_cast<std::uint32_t>(child)},
                      health,
                      possible ? folder.socket() : std::string()});
  if (auto done = agent.start(); !done) {
    release.reset();
    ::waitpid(child, nullptr, 0);
    complain(done.error());
    const ErrorCode code = done.error().code;
    if (code == ErrorCode::privilege || code == ErrorCode::unsupported) {
      explain_library(takes, library_path);
    }
    fmt::print(stderr, "      the program was not started\n");
    return kFailed;
  }
  const char how = agent.provider() == "socket" ? kWithLibrary : kAsItIs;
  [[maybe_unused]] const ssize_t ignored = ::write(release.get(), &how, 1);
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
