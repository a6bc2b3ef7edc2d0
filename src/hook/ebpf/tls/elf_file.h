// What the site finder needs of an ELF file: exported functions, code bytes by address, what a PLT
// stub calls, and what a relative relocation puts somewhere. x86-64 only.
//
// The file belongs to the observed program and is not trusted: every offset is checked against the
// file's size, and nothing here throws but for memory.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"

namespace olly::tls {

class ElfFile {
 public:
  // Takes what is needed of the file behind the descriptor, which must stay open as long as this
  // is used. Reads, never maps: a file that is cut short in the meantime must not kill the agent.
  static Result<ElfFile> read(int fd);

  // Lower-case hex, or Go's own text; empty where the file has none.
  const std::string& build_id() const noexcept { return build_id_; }
  // Address of an exported function; 0 = not there.
  std::uint64_t function(std::string_view name) const noexcept;
  // How many bytes of code the exported function at this address has; 0 = not known.
  std::uint64_t size_of(std::uint64_t function) const noexcept;
  // At least 16 bytes of code at `address`, unless the segment ends; empty: no code there. Valid as
  // long as the ElfFile.
  ByteView code(std::uint64_t address) const;
  // Where the byte at this address is in the file; the caller has seen code() say that it is there.
  std::uint64_t offset_of(std::uint64_t address) const noexcept;
  // What the pointer at `address` holds once the file is loaded; 0 = not known.
  std::uint64_t pointer_at(std::uint64_t address) const;
  // A section by its name, of those that are kept (elf_file.cpp: of_use); null = not there.
  struct Section {
    std::uint64_t address = 0, offset = 0, size = 0;
  };
  const Section* section(std::string_view name) const noexcept;
  // Of the file: as much as there is, at most `size`.
  std::vector<std::uint8_t> bytes(std::uint64_t offset, std::uint64_t size) const;
  int fd() const noexcept { return fd_; }
  // The function whose address the dynamic linker puts there (a GOT entry); empty = not known.
  std::string_view import_at(std::uint64_t address) const noexcept;

 private:
  struct Segment {
    std::uint64_t address, offset, size;
    bool executable;
  };
  struct Range {
    std::uint64_t offset, size;
  };
  Result<void> parse();
  void read_symbols(Range symbols, Range strings);
  void read_imports(Range relocations);
  void read_build_id(Range note);
  const Segment* segment(std::uint64_t address) const noexcept;

  int fd_ = -1;
  std::uint64_t size_ = 0;
  std::string build_id_;
  std::vector<Segment> segments_;
  std::vector<Range> relocations_;
  std::map<std::string, Section, std::less<>> sections_;
  std::map<std::string, std::uint64_t, std::less<>> functions_;
  std::map<std::uint64_t, std::uint64_t> sizes_;
  std::vector<std::string> symbols_;  // names of .dynsym that are imported, by index
  std::map<std::uint64_t, std::string> imports_;
  mutable std::map<std::uint64_t, std::vector<std::uint8_t>> pages_;
};

}  // namespace olly::tls
