#include "event/event.h"

#include <arpa/inet.h>
#include <fmt/format.h>

namespace olly {

std::string address_text(const Endpoint& endpoint) {
  char buffer[INET6_ADDRSTRLEN] = "";
  if (endpoint.family == Family::inet) {
    inet_ntop(AF_INET, endpoint.addr.data(), buffer, sizeof buffer);
  } else if (endpoint.family == Family::inet6) {
    inet_ntop(AF_INET6, endpoint.addr.data(), buffer, sizeof buffer);
  }
  return buffer;
}

std::string endpoint_text(const Endpoint& endpoint) {
  if (endpoint.family == Family::inet6) {
    return fmt::format("[{}]:{}", address_text(endpoint), endpoint.port);
  }
  if (endpoint.family == Family::inet) {
    return fmt::format("{}:{}", address_text(endpoint), endpoint.port);
  }
  return {};
}

}  // namespace olly
