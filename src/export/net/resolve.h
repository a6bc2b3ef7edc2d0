// Names to addresses without ever blocking past a deadline or a stop.
#pragma once

#include <sys/socket.h>

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "export/stop.h"

namespace olly::net {

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

// One thread. Numbers and "localhost" need no resolver. For other names the C library's own
// resolver is asked on a thread of its (getaddrinfo_a): it cannot be interrupted, so a question
// that outlives its deadline stays the one outstanding question, and the next call waits for it.
class Resolver {
 public:
  Resolver();
  ~Resolver();
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  // In the order to try them; never empty. Errors: io.
  Result<std::vector<Address>> resolve(const std::string& host, const std::string& port,
                                       Deadline deadline, const StopFlag& abort);

 private:
  struct Question;
  std::unique_ptr<Question> question_;
};

}  // namespace olly::net
