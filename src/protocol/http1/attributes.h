// The semantic conventions 1.44 for HTTP spans, from message heads.
#pragma once

#include <cstdint>
#include <string_view>

#include "conntrack/connection.h"
#include "protocol/exchange.h"
#include "protocol/http1/parse.h"

namespace olly::http1 {

// Name, method, url.*, server.*, client.*, network.*, user agent, trace context.
void add_request(Exchange& exchange, const Connection& connection, const RequestHead& head);

// Known at the end. Negative = not known.
struct Outcome {
  int status = -1;
  std::int64_t request_body = -1;
  std::int64_t response_body = -1;
  std::string_view error_type;  // when there was an error besides the status code's; static
};
void add_outcome(Exchange& exchange, const Outcome& outcome);

}  // namespace olly::http1
