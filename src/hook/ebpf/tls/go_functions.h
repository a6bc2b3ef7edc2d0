// Functions of a Go program by name, from the table of functions that its runtime unwinds stacks
// with (.gopclntab). The linker writes it into every program, stripped ones too.
//
// The table is the observed program's and not trusted: it is read in windows of bounded number,
// and what is found is only a claim; the site finder compares it with the code.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "hook/ebpf/tls/elf_file.h"

namespace olly::tls {

struct GoFunction {
  std::uint64_t entry = 0;  // 0 = the program has none of this name
  std::uint64_t end = 0;    // where the next function begins
};

// In the order of the names. Of Go 1.18 and later.
Result<std::vector<GoFunction>> find_go_functions(const ElfFile& file,
                                                  std::span<const std::string_view> names);

}  // namespace olly::tls
