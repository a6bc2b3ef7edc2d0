// Which files are mapped as code, from the moment they are: a software event of every CPU whose
// only use is its mmap records. It costs nothing but where a file is mapped executable.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace olly::tls {

struct Mapped {
  std::uint32_t pid = 0;
  std::uint64_t address = 0;
  std::uint64_t length = 0;
  std::uint64_t inode = 0;
  std::string_view path;  // as the process sees it; valid during the call
};

class MapWatch {
 public:
  ~MapWatch();
  // One descriptor per CPU; on error none.
  Result<void> start();
  // To be polled: readable when there is a record.
  std::vector<int> fds() const;
  // Hands on what has been mapped. True: records were lost, so some mappings may have gone unseen.
  bool drain(const std::function<void(const Mapped&)>& on_mapped);
  void stop() noexcept;

 private:
  struct Cpu {
    UniqueFd fd;
    void* memory = nullptr;
  };
  std::vector<Cpu> cpus_;
};

}  // namespace olly::tls
