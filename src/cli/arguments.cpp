// CLI11 is heavy to compile: this is the only file that includes it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "cli/cli.h"

namespace olly::cli {
namespace {

// The words behind `olly run`'s own options belong to the program, dashes and all: the parser must
// never see them. Takes them off `words` and returns them.
std::vector<std::string> take_program(std::vector<std::string>& words) {
  std::size_t at = 0;
  const auto takes_value = [](const std::string& word) {
    return word == "--config" || word == "--config-dir" || word == "--log-level" ||
           word == "--output";
  };
  const auto skip_options = [&] {
    while (at < words.size() && words[at] != "--" && words[at].size() > 1 && words[at][0] == '-') {
      at += takes_value(words[at]) ? 2 : 1;
    }
    at = std::min(at, words.size());
  };
  skip_options();
  if (at == words.size() || words[at] != "run") return {};
  ++at;
  skip_options();
  const std::size_t end = at;
  if (at < words.size() && words[at] == "--") ++at;
  std::vector<std::string> program(words.begin() + static_cast<std::ptrdiff_t>(at), words.end());
  words.resize(end);
  return program;
}

// What is wrong, and where to read on: the whole help on every slip would hide the message.
int complain_usage(const CLI::App& app, const CLI::ParseError& error) {
  const auto used = app.get_subcommands();
  std::string what = error.what();
  constexpr std::string_view kExtras = "not expected: ";
  if (const auto at = what.find(kExtras); at != std::string::npos) {
    const std::string word = what.substr(at + kExtras.size());
    what = fmt::format("unknown {} '{}'",
                       word.starts_with('-') ? "option"
                       : used.empty()        ? "command"
                                             : "argument",
                       word);
  }
  fmt::print(stderr, "olly: {}\n      olly {}--help says what there is\n", what,
             used.empty() ? "" : used.front()->get_name() + " ");
  return 2;
}

}  // namespace

Parsed parse_arguments(int argc, const char* const* argv) {
  Arguments a;
  bool version = false;
  std::string config_dir;
  CLI::App app{"Traces of programs nobody changed, as OTLP", "olly"};
  app.footer(
      "Without a command: the agent, which observes every process (or those of hook.include) "
      "until\n"
      "SIGTERM or Ctrl-C. Without --config it reads /etc/olly/olly.yaml if that is there.\n"
      "Exit status: 0 done, 1 failed at run time, 2 wrong usage or configuration.\n"
      "Begin with: olly check, then: olly run -- COMMAND [ARG...]");
  app.set_help_flag("-h,--help", "Print this help");
  app.add_flag("--version", version, "Print the version");
  app.add_option("--config", a.config_file, "Configuration file")->type_name("FILE");
  app.add_option("--config-dir", config_dir, "Directory of configuration files (not supported yet)")
      ->type_name("DIR");
  app.add_option("--log-level", a.log_level, "What the agent writes to stderr")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}));

  CLI::App* run = app.add_subcommand("run", "Start a program under observation");
  run->add_option("--config", a.config_file, "Configuration file")->type_name("FILE");
  run->add_option("--output", a.output, "Write spans to this file (OTLP/JSON lines)")
      ->type_name("FILE");
  run->footer(
      "olly run [OPTIONS] [--] COMMAND [ARG...]\n"
      "The program's input and output are its own. Without --output (and without exporters in the\n"
      "configuration) its traces are printed to stderr when it has ended.\n"
      "Exit status: the program's own, 128+n when signal n killed it, 127 when it was not found, "
      "126\n"
      "when it cannot be executed, 125 when Olly itself failed.");
  CLI::App* check = app.add_subcommand("check", "What this host offers, and what would be used");
  check->add_flag("--json", a.json, "One JSON object, for machines");
  check->footer(
      "Needs no privileges, changes nothing. Exit status 1 where no traffic would be seen; --json "
      "has\n\"provider\".");
  CLI::App* record = app.add_subcommand("record", "Write captured events to a replay file");
  record->add_option("--output", a.output, "Replay file")->required()->type_name("FILE");
  record->add_option("--duration", a.duration, "How long, such as 10s or 5m (30s)")
      ->type_name("TIME");
  record->add_option("--pid", a.pid, "Only this process and what it starts")->type_name("N");
  record->footer(
      "The file holds what the programs sent and received, secrets included; only its owner may "
      "read it.");
  CLI::App* replay = app.add_subcommand("replay", "Run a replay file through the pipeline");
  replay->add_option("file", a.replay_file, "Replay file")->required();
  replay->add_option("--format", a.format, "text or otlp-json")
      ->check(CLI::IsMember({"text", "otlp-json"}));
  replay->footer(
      "Offline and without privileges. Exit status 1 when an `expect` line of the file does not "
      "hold.");
  CLI::App* version_command = app.add_subcommand("version", "Print the version");
  CLI::App* trace = app.add_subcommand("trace", "Switch the capture of a running agent on and off");
  trace->add_option("--config", a.config_file, "The agent's configuration file")->type_name("FILE");
  trace->add_option("what", a.trace, "start, stop or status")
      ->required()
      ->check(CLI::IsMember({"start", "stop", "status"}));
  trace->footer(
      "Needs an agent with hook.on_demand: true, which captures nothing until `olly trace start`.\n"
      "For root and the user who runs the agent. Exit status 1 when no agent answers.");
  CLI::App* profile = app.add_subcommand("profile", "Profile a program (not supported yet)");
  profile->allow_extras();
  app.require_subcommand(0, 1);

  try {
    std::vector<std::string> words(argv + 1, argv + argc);
    a.program = take_program(words);
    std::reverse(words.begin(), words.end());  // the order that CLI11 wants a vector in
    app.parse(words);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() != 0) return {std::nullopt, complain_usage(app, e)};
    const auto used = app.get_subcommands();
    fmt::print("{}", used.empty() ? app.help() : used.front()->help("olly"));
    return {std::nullopt, 0};
  }
  const auto refuse = [](const char* what) {
    fmt::print(stderr, "olly: {} is not supported yet\n", what);
    return Parsed{std::nullopt, 2};
  };
  if (profile->parsed()) return refuse("'olly profile'");
  if (!config_dir.empty()) return refuse("--config-dir");
  if (version || version_command->parsed()) a.command = Arguments::Command::version;
  if (check->parsed()) a.command = Arguments::Command::check;
  if (record->parsed()) a.command = Arguments::Command::record;
  if (trace->parsed()) a.command = Arguments::Command::trace;
  if (replay->parsed()) a.command = Arguments::Command::replay;
  if (run->parsed()) {
    a.command = Arguments::Command::run;
    if (a.program.empty()) {
      fmt::print(stderr,
                 "olly: run needs a command: olly run [--output FILE] -- COMMAND [ARG...]\n");
      return {std::nullopt, 2};
    }
  }
  return {a, 0};
}

}  // namespace olly::cli
