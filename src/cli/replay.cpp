// olly replay: a recording through the whole pipeline, offline. The same file gives the same
// output.
#include <fmt/format.h>

#include <cstdio>

#include "agent/replay_run.h"
#include "cli/cli.h"
#include "export/exporters.h"
#include "hook/replay/recording.h"

namespace olly::cli {

int run_replay(const Arguments& arguments) {
  const auto recording = replay::load(arguments.replay_file);
  if (!recording) {
    complain(recording.error());
    return recording.error().code == ErrorCode::io ? 1 : 2;
  }
  config::Exporters config;
  config.stdout_ = config::StdoutExporter{arguments.format == "text" ? config::StdoutFormat::text
                                                                     : config::StdoutFormat::json};
  MetricRegistry metrics;
  Exporters exporters(config, metrics);
  if (auto done = exporters.start(); !done) return complain(done.error());
  replay::RunOptions options;
  options.also = &exporters.spans();
  const replay::RunResult result = replay::run_replay(*recording, options);
  exporters.stop();
  if (!result.difference.empty()) {
    fmt::print(stderr, "{}\n", result.difference);
    return 1;
  }
  return 0;
}

}  // namespace olly::cli
