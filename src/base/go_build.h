// Which Go linked a program: from the blob .go.buildinfo that every Go linker since 1.13 writes
// (format: Go's debug/buildinfo package).
#pragma once

#include <string>

namespace olly {

struct GoBuild {
  bool is_go = false;
  std::string version;  // "1.26.8"; empty: not understood, or the form before 1.18
  int minor = 0;        // of 1.N; 0 = not known
};

// Of an open file, which belongs to the observed program and may hold anything.
GoBuild go_build_of(int fd);

}  // namespace olly
