// What is known of a connection's TLS: read from the two hellos, which travel in the clear (RFC
// 8446 section 4.1), or said by a library; and how far the ciphertext has come, which nobody reads.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace olly {

struct TlsInfo {
  std::uint16_t version = 0;  // 0x0304 = TLS 1.3; 0 = not known
  std::uint16_t cipher = 0;   // IANA's number; 0 = not known
  std::string alpn;           // the protocol that was chosen, as far as it was said in the clear
  std::string server_name;    // that the client asked for
};

// A handshake record of TLS begins like this (5 bytes are needed).
bool looks_like_tls(ByteView bytes) noexcept;

// Collects the first handshake message of each direction. Hostile input: bounded, never throws but
// for memory.
class HelloReader {
 public:
  // The next bytes of a direction (0 or 1), from the first one on. After a gap, or when they are no
  // handshake, nothing more is to be learned: give_up().
  void feed(std::size_t direction, ByteView bytes, TlsInfo& info);
  void give_up() noexcept;
  bool done() const noexcept { return done_[0] && done_[1]; }
  bool done(std::size_t direction) const noexcept { return done_[direction]; }

 private:
  void finish(std::size_t direction) noexcept;

  std::array<std::vector<std::uint8_t>, 2> bytes_;
  std::array<bool, 2> done_{};
};

struct TlsConnection {
  TlsInfo info;
  HelloReader hellos;
  // Of the ciphertext, by direction: how far it has come, where that is known.
  std::array<std::uint64_t, 2> end{};
  std::array<bool, 2> placed{};
  // A TLS library's calls are seen: the connection's streams are the plaintext's.
  bool layered = false;
};

}  // namespace olly
