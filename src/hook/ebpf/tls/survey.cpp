#include "hook/ebpf/tls/survey.h"

#include <set>

#include "hook/ebpf/tls/maps.h"

namespace olly::tls {

std::vector<Surveyed> survey(bool dear) {
  std::vector<Surveyed> out;
  std::set<FileKey> known;
  each_process([&](std::uint32_t pid) {
    each_mapping(pid, [&](std::string_view path, std::uint64_t inode) {
      if (!may_be_tls_library(path) && !is_executable(pid, path)) return;
      FileKey key;
      const UniqueFd fd = open_of(pid, path, inode, key);
      if (!fd || !known.insert(key).second) return;
      const auto file = ElfFile::read(fd.get());
      if (!file) return;
      LibrarySites library = find_sites(*file, dear);
      if (!library.library.empty()) out.push_back({std::string(path), std::move(library)});
    });
  });
  return out;
}

}  // namespace olly::tls
