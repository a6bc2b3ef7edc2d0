// The command line of docs/configuration.md. Exit status: 0 done, 1 failed at run time, 2 wrong
// usage or configuration; `olly run` exits as the program did (128+n by signal), 127 not found, 126
// not executable, 125 when Olly itself failed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "config/config.h"

namespace olly::cli {

struct Arguments {
  enum class Command { agent, run, check, record, replay, trace, version } command = Command::agent;
  std::string config_file;
  std::string log_level;
  std::string output;                // run, record
  std::vector<std::string> program;  // run
  bool json = false;                 // check
  std::string duration = "30s";      // record
  std::uint32_t pid = 0;             // record
  std::string replay_file;
  std::string format = "text";  // replay
  std::string trace;            // start, stop or status
};

int run_command_line(int argc, char** argv);

// Arguments, or the exit status with which to end (the message is printed already).
struct Parsed {
  std::optional<Arguments> arguments;
  int status = 0;
};
Parsed parse_arguments(int argc, const char* const* argv);

int run_agent(const Arguments& arguments, config::Config config);
int run_program(const Arguments& arguments, config::Config config);
int run_check(const Arguments& arguments, const config::Config& config);
int run_record(const Arguments& arguments, const config::Config& config);
int run_trace(const Arguments& arguments, const config::Config& config);
int run_replay(const Arguments& arguments);

// "olly: message" and, on a line of its own, the hint. Returns the exit status for the error.
int complain(const Error& error);

}  // namespace olly::cli
