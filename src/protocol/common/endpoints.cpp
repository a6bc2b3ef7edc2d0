#include "protocol/common/endpoints.h"

#include <charconv>

#include "traces/semconv.h"

namespace olly {
namespace {

bool is_inet(const Endpoint& e) noexcept {
  return e.family == Family::inet || e.family == Family::inet6;
}

}  // namespace

AddressText::AddressText(const Endpoint& e) {
  if (e.family != Family::inet) {
    long_ = address_text(e);
    text_ = long_;
    return;
  }
  char* p = short_.data();
  for (int i = 0; i < 4; ++i) {
    if (i > 0) *p++ = '.';
    p = std::to_chars(p, short_.data() + short_.size(), e.addr[static_cast<std::size_t>(i)]).ptr;
  }
  text_ = {short_.data(), static_cast<std::size_t>(p - short_.data())};
}

void add_server_of_socket(AttributeList& out, const Connection& c, Side side) {
  const Endpoint& server = side == Side::server ? c.local : c.remote;
  if (is_inet(server)) {
    const AddressText text(server);
    out.add(semconv::kServerAddress, text.text());
    out.add(semconv::kServerPort, static_cast<std::int64_t>(server.port));
  } else if (!c.path().empty()) {
    out.add(semconv::kServerAddress, c.path());
  }
}

void add_client_of_socket(AttributeList& out, const Connection& c) {
  if (!is_inet(c.remote)) return;
  const AddressText text(c.remote);
  out.add(semconv::kClientAddress, text.text());
}

void add_peer(AttributeList& out, const Connection& c) {
  if (c.family == Family::unix_stream) {
    if (!c.path().empty()) out.add(semconv::kNetworkPeerAddress, c.path());
    out.add(semconv::kNetworkTransport, semconv::kNetworkTransportUnix);
    return;
  }
  if (!is_inet(c.remote)) return;
  const AddressText text(c.remote);
  out.add(semconv::kNetworkPeerAddress, text.text());
  out.add(semconv::kNetworkPeerPort, static_cast<std::int64_t>(c.remote.port));
}

}  // namespace olly
