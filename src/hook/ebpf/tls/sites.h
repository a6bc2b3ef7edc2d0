// Where to put the probes into a TLS library. Per function these kinds of sites, never a uretprobe:
//
//   alone      a result site at which the arguments are still at hand, in registers that calls keep
//              or on the stack: one probe, and none where nothing is moved, as far as that shows.
//              Where there is none:
//   arguments  the first emulated instruction before which no argument register is changed
//   result     emulated instructions behind which nothing changes the result any more, so many that
//              no way out of the function misses them; mostly the stack protector's jump
//
// OpenSSL's SSL_read and SSL_read_ex are two coats of one inner function, which is probed in their
// place where it can be found: one pair of sites, one way to count. It leaves by way of the
// protocol's method table; that is followed. Where the compiler has put the inner function into
// both coats, the function of the table that both call is probed.
//
// A function for which there is no such choice is refused with a reason: a site that some way out
// misses would leave a call open, and bytes of another connection would be taken for its own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "hook/ebpf/tls/elf_file.h"
#include "hook/ebpf/tls/fields.h"

namespace olly::tls {

// Where at a result site the arguments are: a register by its number, or kWord + n: the nth word of
// the stack from where its pointer stands.
struct Whereabouts {
  static constexpr std::uint8_t kWord = 0x80, kNowhere = 0xff;
  std::uint8_t object = kNowhere;
  std::uint8_t buffer = kNowhere;
  std::uint8_t count = kNowhere;
  // What must be `must_be` (as 32 bits) there: other functions pass this site, too.
  std::uint8_t check = kNowhere;
  std::uint8_t must_be = 0;
};

// What a function is to the kernel programs (enum olly_tls_kind).
struct Site {
  std::uint64_t offset = 0;  // in the file
  std::uint32_t kind = 0;    // enum olly_tls_kind
  bool result = false;
  // At a result site: the register that holds the result (machine number). At a branch one of whose
  // two ways ends the function: the condition (machine code) under which it goes the other.
  std::uint8_t in = 0;
  bool branch = false;
  std::uint8_t goes_on = 0;
  ObjectFields fields{};  // elsewhere
  // Bytes on the stack since the function was entered: a result is that of the call whose arguments
  // were seen only if both are of one frame. OpenSSL calls its inner functions for itself, too.
  std::uint32_t depth = 0;
  // Of Go's (*Conn).Read: where in the frame the connection is.
  std::uint16_t home = 0;
  // One of Go's, which have a program of their own.
  bool go() const noexcept;
  // The site stands alone: the function has no other one.
  std::optional<Whereabouts> arguments{};
  bool dear = false;  // the kernel single-steps the instruction there
  std::uint64_t cookie() const noexcept;
};

struct FunctionSites {
  std::string name;  // as exported, or what stands for it: "SSL_read, SSL_read_ex"
  std::uint32_t kind = 0;
  std::vector<Site> sites;  // empty: none
  std::string refused;      // why
};

struct LibrarySites {
  std::string library;  // "OpenSSL", "BoringSSL", "GnuTLS", "crypto/tls of Go 1.26.8"; empty: no
                        // TLS library
  std::string build_id;
  std::vector<FunctionSites> functions;
  // Some site of it is one where the kernel single-steps, at fourteen times the price.
  bool dear() const noexcept;
  // Reading and writing are both covered.
  bool usable() const noexcept;
  // Why not; empty: it is.
  std::string why_not() const;
  std::vector<Site> all() const;
};

// `dear`: where there is no cheap choice, the functions' returns will do.
LibrarySites find_sites(const ElfFile& file, bool dear);

}  // namespace olly::tls
