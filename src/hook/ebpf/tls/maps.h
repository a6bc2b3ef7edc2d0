// Which processes there are and what they have mapped as code, from /proc.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "base/fd.h"

namespace olly::tls {

struct FileKey {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  auto operator<=>(const FileKey&) const = default;
};

// Whether a file of this name is looked into, besides executables.
bool may_be_tls_library(std::string_view path) noexcept;
void each_process(const std::function<void(std::uint32_t pid)>& f);
// Of files: the path as the process sees it, valid during the call, and the inode.
void each_mapping(std::uint32_t pid,
                  const std::function<void(std::string_view path, std::uint64_t inode)>& f);
// Whether the path is that of the process's executable.
bool is_executable(std::uint32_t pid, std::string_view path);
// The file that a process has mapped under this path, also of another mount namespace. Nothing: it
// has been replaced in the meantime.
UniqueFd open_of(std::uint32_t pid, std::string_view path, std::uint64_t inode, FileKey& key);

}  // namespace olly::tls
