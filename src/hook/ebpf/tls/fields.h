// Where a library keeps what its accessor functions tell of a connection's object, read off their
// code: right for the very build that is probed, or not known. Nothing is called.
#pragma once

#include <cstdint>

#include "hook/ebpf/tls/elf_file.h"

namespace olly::tls {

// Offsets in bytes; 0 = not known.
struct ObjectFields {
  // The 32 bytes of the client's random: at object + random, or, where `random_behind` is set, at
  // *(object + random) + random_behind (OpenSSL 1.1 keeps them in a block of their own).
  std::uint32_t random = 0;
  std::uint32_t random_behind = 0;
  std::uint32_t server = 0;  // an int whose lowest bit says whether the object is the server's end
  // For the kernel programs, above the bits that say which function it is (kernel_abi.h).
  std::uint64_t cookie() const noexcept;
};

// By SSL_get_client_random and SSL_is_server.
ObjectFields object_fields(const ElfFile& file);

}  // namespace olly::tls
