#include "hook/ebpf/tls/sites.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <random>
#include <vector>

#include "base/fd.h"
#include "hook/ebpf/kernel_abi.h"
#include "hook/ebpf/tls/code.h"

namespace olly::tls {
namespace {

UniqueFd open_library(const char* name) {
  for (const char* directory : {"/usr/lib/x86_64-linux-gnu/", "/usr/lib64/", "/usr/lib/"}) {
    UniqueFd fd(::open((std::string(directory) + name).c_str(), O_RDONLY | O_CLOEXEC));
    if (fd) return fd;
  }
  return {};
}

// Every site is one that the kernel emulates.
void check(const ElfFile& file, const LibrarySites& library, int fd) {
  for (const FunctionSites& f : library.functions) {
    std::printf("  %s:", f.name.c_str());
    for (const Site& s : f.sites) {
      std::uint8_t bytes[2] = {};
      ASSERT_EQ(::pread(fd, bytes, 2, static_cast<off_t>(s.offset)), 2);
      const bool jump = bytes[0] == 0xe8 || bytes[0] == 0xe9 || bytes[0] == 0xeb ||
                        (bytes[0] >= 0x70 && bytes[0] <= 0x7f) ||
                        (bytes[0] == 0x0f && bytes[1] >= 0x80 && bytes[1] <= 0x8f);
      const bool push = (bytes[0] >= 0x50 && bytes[0] <= 0x57) ||
                        (bytes[0] == 0x41 && bytes[1] >= 0x50 && bytes[1] <= 0x57);
      EXPECT_TRUE(jump || push) << f.name << " at " << s.offset;
      std::printf(" %s%#llx", s.result ? "result " : "", static_cast<unsigned long long>(s.offset));
    }
    std::printf(" %s\n", f.refused.c_str());
  }
  (void)file;
}

TEST(Sites, OfOpenSsl) {
  const UniqueFd fd = open_library("libssl.so.3");
  if (!fd) GTEST_SKIP() << "no libssl.so.3 here";
  const auto file = ElfFile::read(fd.get());
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->build_id().size(), 40u);
  const LibrarySites library = find_sites(*file, false);
  check(*file, library, fd.get());
  EXPECT_EQ(library.library, "OpenSSL");
  EXPECT_EQ(library.why_not(), "");
  std::size_t reads = 0, writes = 0;
  for (const Site& s : library.all()) {
    if (s.result && !s.arguments) continue;
    reads += s.kind == OLLY_TLS_READ || s.kind == OLLY_TLS_READ_EX;
    writes += s.kind == OLLY_TLS_WRITE || s.kind == OLLY_TLS_WRITE_EX;
  }
  EXPECT_GE(reads, 1u);
  EXPECT_GE(writes, 1u);
  const ObjectFields fields = object_fields(*file);
  EXPECT_NE(fields.random, 0u);
  EXPECT_NE(fields.server, 0u);
  EXPECT_EQ(fields.random % 8, 0u);
}

// OpenSSL within an executable that exports its functions, whose inner function is part of both
// coats.
TEST(Sites, OfNode) {
  const UniqueFd fd(::open("/usr/bin/node", O_RDONLY | O_CLOEXEC));
  if (!fd) GTEST_SKIP() << "no /usr/bin/node here";
  const auto file = ElfFile::read(fd.get());
  ASSERT_TRUE(file) << file.error().message;
  const LibrarySites library = find_sites(*file, false);
  if (library.library.empty()) GTEST_SKIP() << "it takes OpenSSL from a library";
  check(*file, library, fd.get());
  EXPECT_EQ(library.why_not(), "");
  for (const Site& s : library.all()) {
    if (s.result) continue;
    EXPECT_NE(s.fields.random, 0u);
    EXPECT_NE(s.fields.server, 0u);
  }
}

// Reading takes one probe a call: what it read into is still known where it returns, and SSL_peek,
// which returns there, too, is told from it.
TEST(Sites, StandAloneWhereTheArgumentsAreKept) {
  const UniqueFd fd = open_library("libssl.so.3");
  if (!fd) GTEST_SKIP() << "no libssl.so.3 here";
  const auto file = ElfFile::read(fd.get());
  ASSERT_TRUE(file);
  if (file->function("SSL_get_value_uint") != 0) GTEST_SKIP() << "tried with OpenSSL 3.0";
  const LibrarySites library = find_sites(*file, false);
  const auto read = std::find_if(library.functions.begin(), library.functions.end(),
                                 [](const auto& f) { return f.kind == OLLY_TLS_READ_EX; });
  ASSERT_NE(read, library.functions.end());
  ASSERT_FALSE(read->sites.empty());
  for (const Site& s : read->sites) {
    ASSERT_TRUE(s.result && s.arguments);
    EXPECT_NE(s.arguments->object, Whereabouts::kNowhere);
    EXPECT_NE(s.arguments->buffer, Whereabouts::kNowhere);
    EXPECT_NE(s.arguments->count, Whereabouts::kNowhere);
    EXPECT_NE(s.arguments->check, Whereabouts::kNowhere);
    EXPECT_EQ(s.cookie() & 0xff, static_cast<std::uint64_t>(OLLY_TLS_READ_EX));
    EXPECT_NE(s.cookie() & OLLY_TLS_ALONE, 0u);
  }
}

TEST(Sites, OfGnuTls) {
  const UniqueFd fd = open_library("libgnutls.so.30");
  if (!fd) GTEST_SKIP() << "no libgnutls.so.30 here";
  const auto file = ElfFile::read(fd.get());
  ASSERT_TRUE(file) << file.error().message;
  const LibrarySites library = find_sites(*file, false);
  check(*file, library, fd.get());
  EXPECT_EQ(library.library, "GnuTLS");
  // 3.7 leaves by ways that have no cheap site: said, never half covered.
  EXPECT_EQ(library.usable(), library.why_not().empty());
  if (!library.usable()) {
    EXPECT_NE(library.why_not().find("gnutls_record"), std::string::npos) << library.why_not();
  }
}

// A library is the observed program's: whatever it holds, the agent must get over it.
TEST(Sites, OfABrokenFile) {
  const UniqueFd fd = open_library("libssl.so.3");
  if (!fd) GTEST_SKIP() << "no libssl.so.3 here";
  std::vector<std::uint8_t> whole(1 << 20);
  const ssize_t n = ::pread(fd.get(), whole.data(), whole.size(), 0);
  ASSERT_GT(n, 0);
  whole.resize(static_cast<std::size_t>(n));
  std::mt19937 random(7);
  for (int round = 0; round < 60; ++round) {
    std::vector<std::uint8_t> broken = whole;
    // Heads, tables, code: what is small is hit more often.
    const std::size_t reach =
        std::min<std::size_t>(broken.size(), round % 3 == 0   ? 64
                                             : round % 3 == 1 ? 16384
                                                              : broken.size());
    for (int i = 0; i < 200; ++i) broken[random() % reach] = static_cast<std::uint8_t>(random());
    std::copy_n(whole.begin(), 20, broken.begin());  // still an ELF file of x86-64
    if (round % 5 == 0) broken.resize(random() % broken.size());
    const UniqueFd memory(memfd_create("broken", MFD_CLOEXEC));
    ASSERT_EQ(::write(memory.get(), broken.data(), broken.size()),
              static_cast<ssize_t>(broken.size()));
    const auto file = ElfFile::read(memory.get());
    if (!file) continue;
    const LibrarySites library = find_sites(*file, false);
    EXPECT_EQ(library.all().empty() && library.why_not().empty(), false);
  }
}

TEST(Sites, AreRefusedWhereThereIsNoTls) {
  const UniqueFd fd(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  const auto file = ElfFile::read(fd.get());
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(find_sites(*file, false).why_not(), "no TLS library");
}

TEST(Sites, OfWhatIsNoElfFile) {
  const UniqueFd fd(::open("/etc/passwd", O_RDONLY | O_CLOEXEC));
  EXPECT_FALSE(ElfFile::read(fd.get()));
}

}  // namespace
}  // namespace olly::tls
