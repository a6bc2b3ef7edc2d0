// Giving a program libolly.so: where the library is, and whether the program would take it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "config/config.h"

namespace olly::cli {

// libolly.so beside this executable, in ../lib or in ../lib/olly; empty when it is nowhere.
std::string find_library();

// The file that execvp would run; empty when there is none.
std::string find_program(const std::string& name);

// Nothing, or why libolly.so sees nothing of this program and what to do instead: statically
// linked, written in Go (which makes its system calls by itself), setuid, of another architecture.
// Scripts count as their interpreter. What the program starts later cannot be foretold.
Result<void> takes_library(const std::string& program);

// What to set for the program. LD_PRELOAD keeps what it had, behind ours.
struct Setting {
  std::string name, value;
};
std::vector<Setting> preload_settings(const std::string& library, const std::string& socket,
                                      const config::Config& config);

// A folder of our own for the socket, in $XDG_RUNTIME_DIR, $TMPDIR or /tmp; removed at the end.
class PrivateFolder {
 public:
  PrivateFolder();
  ~PrivateFolder();
  PrivateFolder(const PrivateFolder&) = delete;
  PrivateFolder& operator=(const PrivateFolder&) = delete;
  // Empty when it could not be made.
  std::string socket() const { return path_.empty() ? "" : path_ + "/hook.sock"; }

 private:
  std::string path_;
};

}  // namespace olly::cli
