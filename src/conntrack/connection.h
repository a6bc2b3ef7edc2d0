// One socket, as everything downstream of conntrack may know it. There may be 100,000 of them: what
// is not needed while a connection is idle is not kept here.
#pragma once

#include <cstdint>

#include "base/rare_text.h"
#include "discovery/process.h"
#include "event/event.h"

namespace olly {

struct Connection {
  SocketId id = 0;
  ConnectionIdentity identity;
  ProcessPtr process;  // of the latest I/O
  RareText path;       // UNIX
  Endpoint local;
  Endpoint remote;
  Family family = Family::none;
  Role role = Role::unknown;  // from the handshake; protocols may settle it when that is unknown
};

}  // namespace olly
