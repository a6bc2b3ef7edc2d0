// The command line, nothing else.
#include "cli/cli.h"

int main(int argc, char** argv) { return olly::cli::run_command_line(argc, argv); }
