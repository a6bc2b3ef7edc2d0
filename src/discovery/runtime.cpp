// Which runtime an executable is: by its name, and for Go by what its linker says.
#include <fcntl.h>

#include <string>

#include "base/fd.h"
#include "base/go_build.h"
#include "discovery/process_table.h"

namespace olly::discovery {
namespace {

// runtime.g.goid as the debug information of these versions has it: 1.23 added syscallbp before it,
// 1.25 took gobuf.ret away. What is newer was not looked at: unlinked.
std::uint32_t goid_offset_of(int minor) noexcept {
  if (minor == 23 || minor == 24) return 160;
  return minor >= 18 && minor <= 27 ? 152 : 0;
}

}  // namespace

Runtime runtime_of(const std::string& exe_name, const std::string& path,
                   std::uint32_t& goid_offset) {
  goid_offset = 0;
  if (exe_name == "nginx") return Runtime::socket_loop;
  if (exe_name == "node" || exe_name == "nodejs") return Runtime::timer_loop;
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const GoBuild build = fd ? go_build_of(fd.get()) : GoBuild{};
  // Python's asyncio needs no case of its own: its sockets do not block, and evidence A asks for
  // a read that could have.
  if (!build.is_go) return Runtime::unknown;
  goid_offset = goid_offset_of(build.minor);
  return Runtime::go;
}

}  // namespace olly::discovery
