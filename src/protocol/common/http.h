// The semantic conventions 1.44 for HTTP spans, from what any version of HTTP says in its heads.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "conntrack/connection.h"
#include "protocol/exchange.h"

namespace olly {

// The fields that telemetry needs. A view with null data was not there; values are trimmed.
struct HttpFields {
  std::string_view host;
  std::uint8_t host_count = 0;  // saturates
  std::string_view user_agent;
  std::string_view forwarded;          // the first
  std::string_view x_forwarded_for;    // the first
  std::string_view x_forwarded_proto;  // the first
  std::string_view traceparent;
  std::uint8_t traceparent_count = 0;          // more than one makes it invalid
  std::array<std::string_view, 4> tracestate;  // several are one list, in order (W3C 3.3.1)
  std::uint8_t tracestate_count = 0;           // may exceed the array: then the list is dropped
};

// A request's head. The views need to last for the call only.
struct HttpRequest {
  // Null data: not known, which is not the same as a method that the conventions do not know.
  std::string_view method;
  std::string_view target;     // RFC 9112 section 3.2, all four forms; :path of HTTP/2
  std::string_view scheme;     // :scheme; empty in HTTP/1
  std::string_view authority;  // :authority; empty in HTTP/1, whose host is among the fields
  std::string_view version;    // network.protocol.version
};

// Name, method, url.*, server.*, client.*, network.*, user agent, trace context.
void add_http_request(Exchange& exchange, const Connection& connection, const HttpRequest& request,
                      const HttpFields& fields);

// Known at the end. Negative = not known.
struct HttpOutcome {
  int status = -1;
  std::int64_t request_body = -1;
  std::int64_t response_body = -1;
  std::string_view error_type;  // when there was an error besides the status code's; static
};
void add_http_outcome(Exchange& exchange, const HttpOutcome& outcome);

// server.address and server.port as an authority names them ("host", "host:port"; `default_port`
// when it has none), else as the socket does.
void add_http_server(AttributeList& out, std::string_view authority, int default_port, Side side,
                     const Connection& connection);
// Fills in trace_parent and trace_state.
void add_trace_context(Exchange& exchange, const HttpFields& fields);

// The methods that the conventions know (RFC 9110 section 9, RFC 5789, QUERY).
bool is_known_method(std::string_view method) noexcept;

// ASCII case is ignored.
bool iequals(std::string_view text, std::string_view lower_case) noexcept;

}  // namespace olly
