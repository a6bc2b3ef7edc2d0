#include "base/go_build.h"

#include <elf.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string_view>

namespace olly {
namespace {

constexpr std::string_view kMagic = "\xff Go buildinf:";
constexpr std::size_t kHeader = 32;

bool read_at(int fd, std::uint64_t offset, void* to, std::size_t size) {
  return ::pread(fd, to, size, static_cast<off_t>(offset)) == static_cast<ssize_t>(size);
}

// The bytes of .go.buildinfo, at most 256 of them; empty when the file is no 64-bit Go executable.
std::string build_info(int fd) {
  Elf64_Ehdr header;
  if (!read_at(fd, 0, &header, sizeof header)) return {};
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
      header.e_shentsize != sizeof(Elf64_Shdr) || header.e_shnum > 512 ||
      header.e_shstrndx >= header.e_shnum) {
    return {};
  }
  Elf64_Shdr names;
  if (!read_at(fd, header.e_shoff + header.e_shstrndx * sizeof names, &names, sizeof names)) {
    return {};
  }
  constexpr std::string_view kSection(".go.buildinfo\0", 14);  // with its NUL
  for (std::size_t i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr section;
    char name[kSection.size()];
    if (!read_at(fd, header.e_shoff + i * sizeof section, &section, sizeof section)) return {};
    if (section.sh_name > names.sh_size ||
        !read_at(fd, names.sh_offset + section.sh_name, name, sizeof name) ||
        std::string_view(name, sizeof name) != kSection) {
      continue;
    }
    std::string blob(std::min<std::uint64_t>(section.sh_size, 256), '\0');
    if (!read_at(fd, section.sh_offset, blob.data(), blob.size())) return {};
    return blob;
  }
  return {};
}

// "go1.26.8" to "1.26.8", which may go on with a word or a suffix; empty = not understood.
std::string_view version_in(std::string_view blob) {
  if (blob.size() < kHeader + 4 || (static_cast<unsigned char>(blob[15]) & 2) == 0) return {};
  const auto at = blob.find("go1.", kHeader);
  if (at == std::string_view::npos || at > kHeader + 4) return {};
  const std::string_view rest = blob.substr(at + 2);
  return rest.substr(0, std::min(rest.find_first_not_of("0123456789."), rest.size()));
}

}  // namespace

GoBuild go_build_of(int fd) {
  GoBuild build;
  const std::string blob = build_info(fd);
  build.is_go = blob.starts_with(kMagic);
  if (!build.is_go) return build;
  build.version = version_in(blob);
  for (std::size_t i = 2; i < build.version.size() && build.version[i] != '.'; ++i) {
    build.minor = build.minor * 10 + (build.version[i] - '0');
    if (build.minor > 1000) return {true, {}, 0};
  }
  return build;
}

}  // namespace olly
