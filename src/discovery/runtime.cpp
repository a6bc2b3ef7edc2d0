// Which runtime an executable is: by its name, and for Go by the .go.buildinfo blob that every Go
// linker since 1.13 writes (format: Go's debug/buildinfo package).
#include <elf.h>
#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "base/fd.h"
#include "discovery/process_table.h"

namespace olly::discovery {
namespace {

constexpr std::string_view kMagic = "\xff Go buildinf:";

bool read_at(int fd, std::uint64_t offset, void* to, std::size_t size) {
  return ::pread(fd, to, size, static_cast<off_t>(offset)) == static_cast<ssize_t>(size);
}

// The bytes of .go.buildinfo, at most 256 of them; empty when the file is no 64-bit Go executable.
std::string go_build_info(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  Elf64_Ehdr header;
  if (!fd || !read_at(fd.get(), 0, &header, sizeof header)) return {};
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
      header.e_shentsize != sizeof(Elf64_Shdr) || header.e_shnum > 512 ||
      header.e_shstrndx >= header.e_shnum) {
    return {};
  }
  Elf64_Shdr names;
  if (!read_at(fd.get(), header.e_shoff + header.e_shstrndx * sizeof names, &names, sizeof names)) {
    return {};
  }
  constexpr std::string_view kSection(".go.buildinfo\0", 14);  // with its NUL
  for (std::size_t i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr section;
    char name[kSection.size()];
    if (!read_at(fd.get(), header.e_shoff + i * sizeof section, &section, sizeof section))
      return {};
    if (section.sh_name > names.sh_size ||
        !read_at(fd.get(), names.sh_offset + section.sh_name, name, sizeof name) ||
        std::string_view(name, sizeof name) != kSection) {
      continue;
    }
    std::string blob(std::min<std::uint64_t>(section.sh_size, 256), '\0');
    if (!read_at(fd.get(), section.sh_offset, blob.data(), blob.size())) return {};
    return blob;
  }
  return {};
}

// "go1.26.8" to 26; 0 = not understood, or the pre-1.18 form that holds pointers.
int go_minor_version(const std::string& blob) {
  constexpr std::size_t kHeader = 32;
  if (blob.size() < kHeader + 4 || !blob.starts_with(kMagic)) return 0;
  if ((static_cast<unsigned char>(blob[15]) & 2) == 0) return 0;
  const auto at = blob.find("go1.", kHeader);
  if (at == std::string::npos || at > kHeader + 4) return 0;
  int minor = 0;
  for (std::size_t i = at + 4; i < blob.size() && blob[i] >= '0' && blob[i] <= '9'; ++i) {
    minor = minor * 10 + (blob[i] - '0');
    if (minor > 1000) return 0;
  }
  return minor;
}

}  // namespace

Runtime runtime_of(const std::string& exe_name, const std::string& path,
                   std::uint32_t& goid_offset) {
  goid_offset = 0;
  if (exe_name == "nginx") return Runtime::socket_loop;
  if (exe_name == "node" || exe_name == "nodejs") return Runtime::timer_loop;
  const std::string blob = go_build_info(path);
  if (!blob.starts_with(kMagic)) {
    // Python's asyncio needs no case of its own: its sockets do not block, and evidence A asks for
    // a read that could have.
    return Runtime::unknown;
  }
  // runtime.g.goid: seen at 152 in Go 1.19 and 1.26. In between it has moved (1.23 added syscallbp
  // before it, 1.25 took gobuf.ret away), and nothing in between was tried: unlinked.
  const int minor = go_minor_version(blob);
  if (minor == 19 || minor == 26) goid_offset = 152;
  return Runtime::go;
}

}  // namespace olly::discovery
