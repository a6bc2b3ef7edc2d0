#include "cli/cli.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>

#include "agent/agent.h"
#include "base/log.h"
#include "config/loader.h"

namespace olly::cli {
namespace {

constexpr const char* kDefaultFile = "/etc/olly/olly.yaml";

Result<config::Config> load_config(const Arguments& arguments) {
  const config::Environment environment = config::process_environment();
  std::string path = arguments.config_file;
  if (path.empty() && ::access(kDefaultFile, F_OK) == 0) {
    // Only root may be allowed to read it; what the host offers, anyone may ask.
    const bool readable = ::access(kDefaultFile, R_OK) == 0;
    if (readable || arguments.command != Arguments::Command::check) path = kDefaultFile;
    if (!readable) log::warn("{} is there and cannot be read", kDefaultFile);
  }
  auto loaded = path.empty() ? config::load("", "the environment", environment)
                             : config::load_file(path, environment);
  if (!loaded) return std::unexpected(loaded.error());
  constexpr std::array<std::string_view, 4> kLevels = {"debug", "info", "warn", "error"};
  for (std::size_t i = 0; i < kLevels.size(); ++i) {
    if (arguments.log_level == kLevels[i]) {
      loaded->config.log_level = static_cast<config::LogLevel>(i);
    }
  }
  log::set_level(static_cast<log::Level>(loaded->config.log_level));
  for (const std::string& warning : loaded->warnings) log::warn("{}", warning);
  return std::move(loaded->config);
}

}  // namespace

int complain(const Error& error) {
  fmt::print(stderr, "olly: {}\n", error.message);
  if (!error.hint.empty()) fmt::print(stderr, "      {}\n", error.hint);
  return error.code == ErrorCode::usage || error.code == ErrorCode::config ? 2 : 1;
}

int run_agent(const Arguments&, config::Config config) {
  // Blocked before any thread starts, so that every thread inherits it and only sigwait sees them.
  sigset_t signals;
  sigemptyset(&signals);
  for (int s : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&signals, s);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  agent::Agent agent({std::move(config), {}, true});
  if (auto done = agent.start(); !done) return complain(done.error());
  for (int received = 0;;) {
    sigwait(&signals, &received);
    if (received != SIGHUP) break;
    log::warn("SIGHUP is ignored: reloading the configuration is not supported yet");
  }
  agent.stop();
  return 0;
}

int run_command_line(int argc, char** argv) {
  const Parsed parsed = parse_arguments(argc, argv);
  if (!parsed.arguments) return parsed.status;
  const Arguments& arguments = *parsed.arguments;
  if (arguments.command == Arguments::Command::version) {
    fmt::print("olly {}\n", OLLY_VERSION);
    return 0;
  }
  if (arguments.command == Arguments::Command::replay) return run_replay(arguments);
  auto config = load_config(arguments);
  if (!config) return complain(config.error());
  switch (arguments.command) {
    case Arguments::Command::run:
      return run_program(arguments, std::move(*config));
    case Arguments::Command::check:
      return run_check(arguments, *config);
    case Arguments::Command::record:
      return run_record(arguments, *config);
    case Arguments::Command::trace:
      return run_trace(arguments, *config);
    default:
      return run_agent(arguments, std::move(*config));
  }
}

}  // namespace olly::cli
