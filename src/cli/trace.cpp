// olly trace start|stop|status: switches the capture of a running agent, and says what it is.
#include <fmt/format.h>

#include <cstdio>

#include "agent/control.h"
#include "cli/cli.h"

namespace olly::cli {

int run_trace(const Arguments& arguments, const config::Config& config) {
  const auto answer =
      agent::ask_agent(agent::control_path(config.hook.socket_path), arguments.trace);
  if (!answer) return complain(answer.error());
  fmt::print("{}\n", *answer);
  return 0;
}

}  // namespace olly::cli
