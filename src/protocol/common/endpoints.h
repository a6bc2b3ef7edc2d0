// The attributes that say where an exchange went, from the socket alone: for every protocol.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "conntrack/connection.h"
#include "event/event.h"
#include "protocol/exchange.h"
#include "traces/attributes.h"

namespace olly {

// Address text without the generic formatter: this runs several times per exchange.
class AddressText {
 public:
  explicit AddressText(const Endpoint& endpoint);
  AddressText(const AddressText&) = delete;
  AddressText& operator=(const AddressText&) = delete;
  std::string_view text() const noexcept { return text_; }

 private:
  std::array<char, 16> short_{};
  std::string long_;
  std::string_view text_;
};

// server.address and server.port of the side that serves; a UNIX socket's address is its path.
void add_server_of_socket(AttributeList& out, const Connection& connection, Side side);
// client.address, on the serving side.
void add_client_of_socket(AttributeList& out, const Connection& connection);
// network.peer.address and .port; of a UNIX socket its path, and network.transport.
void add_peer(AttributeList& out, const Connection& connection);

}  // namespace olly
