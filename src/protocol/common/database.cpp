#include "protocol/common/database.h"

#include "traces/semconv.h"

namespace olly {

void add_database(Exchange& x, const Connection& c, std::string_view system) {
  x.attributes.add(semconv::kDbSystemName, system);
  add_server_of_socket(x.attributes, c, x.side);
  if (x.side == Side::server) add_client_of_socket(x.attributes, c);
  add_peer(x.attributes, c);
}

void add_database_error(Exchange& x, std::string_view code) {
  x.attributes.add(semconv::kDbResponseStatusCode, code);
  x.attributes.add(semconv::kErrorType, code);
  x.status = StatusCode::error;
}

void add_no_answer(Exchange& x, std::string_view error_type) {
  x.attributes.add(semconv::kErrorType, error_type);
  x.status = StatusCode::error;
}

}  // namespace olly
