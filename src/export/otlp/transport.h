// One request at a time over one connection that is kept. One thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "export/otlp/answer.h"
#include "export/otlp/target.h"
#include "export/stop.h"

namespace olly::otlp {

class Transport {
 public:
  virtual ~Transport() = default;
  struct Request {
    Signal signal = Signal::traces;
    std::string_view path;  // http
    std::string_view body;  // compressed
    config::Compression compression = config::Compression::none;
  };
  // Connects where there is no connection. Until answered, `deadline` or `abort`.
  virtual Answer send(const Request& request, Deadline deadline, const StopFlag& abort) = 0;
  // Now and then while there is nothing to send: notices a connection that was closed.
  virtual void idle() = 0;
};

std::unique_ptr<Transport> make_http_transport(const OtlpTarget& target);
std::unique_ptr<Transport> make_grpc_transport(const OtlpTarget& target);

inline Answer no_answer(const StopFlag& abort, std::string message) {
  return {abort.is_set() ? Answer::Kind::stopped : Answer::Kind::retry, {}, 0, std::move(message)};
}

}  // namespace olly::otlp
