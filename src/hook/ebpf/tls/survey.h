// What of TLS would be covered on this host: for `olly check`.
#pragma once

#include <string>
#include <vector>

#include "hook/ebpf/tls/sites.h"

namespace olly::tls {

struct Surveyed {
  std::string path;
  LibrarySites library;
};

// The TLS libraries that running processes have mapped, as far as /proc may be read; each once.
std::vector<Surveyed> survey(bool dear);

}  // namespace olly::tls
