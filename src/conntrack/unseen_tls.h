// TLS whose plaintext nobody sees: which programs that is, each said once. One of which some
// plaintext is seen is said only when it is many connections: each program has a few that end in
// the handshake.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>

#include "base/time.h"
#include "event/event.h"

namespace olly::conntrack {

class UnseenTls {
 public:
  // Both hellos of the connection were read on the wire, in the clear.
  void met(SocketId sock, Nanos now);
  // A TLS library's calls of the program are seen.
  void seen(const std::string& exe);
  // A connection of it has ended without plaintext. True: it is time to say so.
  bool ended(const std::string& exe);
  // One has lived for a while without plaintext.
  bool lives(const std::string& exe);
  // Hands on the connections that were met a while ago, each once.
  void due(Nanos now, const std::function<void(SocketId)>& look);

 private:
  static constexpr Nanos kPatience = 5 * kSecond;
  static constexpr std::size_t kMaxWaiting = 256, kMaxPrograms = 256;
  static constexpr std::uint32_t kEnough = 3, kEnoughOfSeen = 20;
  struct Waiting {
    SocketId sock;
    Nanos since;
  };
  struct Program {
    std::uint32_t unseen = 0;
    bool seen = false;
    bool said = false;
  };
  Program* program(const std::string& exe);
  bool count(const std::string& exe, std::uint32_t n);

  std::deque<Waiting> waiting_;
  std::map<std::string, Program> programs_;  // by executable
};

}  // namespace olly::conntrack
