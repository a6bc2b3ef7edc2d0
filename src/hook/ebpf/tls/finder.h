// Which places of a function tell a call's arguments and its result, chosen by disassembly among
// the instructions that the kernel emulates (decision 0006).
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "hook/ebpf/tls/code.h"
#include "hook/ebpf/tls/elf_file.h"
#include "hook/ebpf/tls/sites.h"
#include "hook/ebpf/tls/values.h"

namespace olly::tls {

struct ResultSite {
  std::uint64_t at = 0;
  std::int8_t in = 0;         // the register that holds it, or OLLY_TLS_NOTHING: it is 0 or less
  std::uint64_t goes_on = 0;  // where, if the condition holds; 0: the function ends
  std::uint8_t condition = 0;
  std::uint32_t depth = 0;                 // of the stack by then, in bytes
  std::optional<Whereabouts> arguments{};  // where they are, too, if one probe is to know all
};

struct ArgumentSite {
  std::uint64_t at = 0;
  std::uint32_t depth = 0;
};

class Finder {
 public:
  // `dear`: instructions that the kernel does not emulate will do, where no other choice is.
  Finder(const ElfFile& file, bool dear);

  // The first emulated instruction before which none of the registers is changed; a jump rather
  // than a push, which costs more.
  std::optional<ArgumentSite> arguments(std::uint64_t entry, std::uint32_t registers) const;

  // False: `why` says it. The site of the arguments cannot be one of results, too. `reads`: the
  // function fills the buffer, which has to be done by then.
  bool results(std::uint64_t entry, std::uint64_t arguments, bool reads,
               std::vector<ResultSite>& sites, std::string& why) const;

  // The functions that `plain` and `ex` both call with the arguments of `ex`, the outer ones first.
  std::vector<std::uint64_t> inner(std::uint64_t plain, std::uint64_t ex) const;

  // Sites at which the arguments of the function are at hand, too, so that one probe knows all. It
  // may share code with other functions of the method table; what tells them apart is looked at as
  // well.
  bool alone(std::uint64_t entry, bool reads, std::vector<ResultSite>& sites,
             std::string& why) const;

  // The kernel emulates the instruction there.
  bool cheap(std::uint64_t at) const;

  // Whom of the method table the function leaves for; 0: nobody, or not one alone.
  std::uint64_t leaves_for(std::uint64_t entry) const;

 private:
  using Addresses = std::set<std::uint64_t>;

  std::uint64_t first_call(std::uint64_t entry, std::uint32_t intact) const;
  std::set<std::int64_t> table_calls(std::uint64_t entry) const;
  static std::uint64_t resolve(const void* self, std::int64_t displacement);
  Addresses before_filled(const Flow& flow) const;
  std::vector<Values> sharing(const Flow& flow) const;

  const ElfFile& file_;
  Decoder decoder_;
  std::uint64_t methods_;
  bool dear_;
};

}  // namespace olly::tls
