// One socket, as everything downstream of conntrack may know it. There may be 100,000 of them: what
// is not needed while a connection is idle is not kept here.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "conntrack/tls.h"
#include "discovery/process.h"
#include "event/event.h"

namespace olly {

// What few connections have: eight bytes where there is none of it.
class RareParts {
 public:
  std::string_view path() const noexcept { return parts_ ? parts_->path : std::string_view(); }
  void set_path(std::string_view path) {
    if (!path.empty()) make().path = path;
  }
  TlsConnection* tls() const noexcept { return parts_ ? parts_->tls.get() : nullptr; }
  TlsConnection& make_tls() {
    std::unique_ptr<TlsConnection>& tls = make().tls;
    if (!tls) tls = std::make_unique<TlsConnection>();
    return *tls;
  }

 private:
  struct Parts {
    std::string path;
    std::unique_ptr<TlsConnection> tls;
  };
  Parts& make() {
    if (!parts_) parts_ = std::make_unique<Parts>();
    return *parts_;
  }
  std::unique_ptr<Parts> parts_;
};

struct Connection {
  SocketId id = 0;
  ConnectionIdentity identity;
  ProcessPtr process;  // of the latest I/O
  RareParts rare;
  Endpoint local;
  Endpoint remote;
  Family family = Family::none;
  Role role = Role::unknown;  // from the handshake; protocols may settle it when that is unknown

  std::string_view path() const noexcept { return rare.path(); }  // UNIX
  // Null: no sign of TLS.
  TlsConnection* tls() const noexcept { return rare.tls(); }
  // What protocols read of it is TLS's plaintext.
  bool encrypted() const noexcept { return tls() != nullptr && tls()->layered; }
};

}  // namespace olly
