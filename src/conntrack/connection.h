// One socket, as everything downstream of conntrack may know it.
#pragma once

#include <cstdint>
#include <string>

#include "discovery/process.h"
#include "event/event.h"

namespace olly {

struct Connection {
  SocketId id = 0;
  ConnectionIdentity identity;
  Family family = Family::none;
  Role role = Role::unknown;  // from the handshake; protocols may settle it when that is unknown
  bool role_from_protocol = false;
  Endpoint local;
  Endpoint remote;
  std::string path;  // UNIX
  std::uint32_t netns = 0;
  ProcessPtr process;  // of the latest I/O
  Nanos opened = 0;
  // connect(): who called it and when; time 0 = not seen. Evidence C needs it.
  Nanos connect_time = 0;
  TaskStamp connect_task;
};

}  // namespace olly
