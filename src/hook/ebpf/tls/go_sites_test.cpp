#include "hook/ebpf/tls/go_sites.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/fd.h"
#include "hook/ebpf/kernel_abi.h"
#include "hook/ebpf/tls/go_functions.h"

namespace olly::tls {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::uint64_t kBase = 0x400000;
constexpr std::uint64_t kText = 0x1000;  // offset of .text, and of runtime.text from kBase

template <class T>
void put(Bytes& out, T value) {
  const auto* p = reinterpret_cast<const std::uint8_t*>(&value);
  out.insert(out.end(), p, p + sizeof value);
}

void set(Bytes& out, std::size_t at, std::uint64_t value) {
  std::memcpy(out.data() + at, &value, sizeof value);
}

// What a Go linker would make of a program with these functions, as far as it is looked at.
class Program {
 public:
  std::string version = "go1.26.1";
  bool text_in_header = false;  // else in moduledata, as from 1.26 on

  // Returns where in the code it begins.
  std::size_t function(const std::string& name, const Bytes& code) {
    functions_.push_back({name, code_.size()});
    code_.insert(code_.end(), code.begin(), code.end());
    code_.resize((code_.size() + 31) & ~31ull, 0xcc);
    return functions_.back().at;
  }
  // The call of one function at a place in another's code.
  void call(std::size_t at, std::size_t target) {
    code_[at] = 0xe8;
    const auto distance = static_cast<std::int32_t>(static_cast<std::int64_t>(target) -
                                                    static_cast<std::int64_t>(at + 5));
    std::memcpy(code_.data() + at + 1, &distance, 4);
  }

  Bytes file() const {
    Bytes table = function_table(), info = build_info(), module(256, 0);
    if (!text_in_header) set(module, 176, kBase + kText);
    static constexpr char kNames[] = "\0.text\0.gopclntab\0.go.buildinfo\0.go.module";
    const std::string names(kNames, sizeof kNames);
    Bytes out(kText, 0);
    const auto append = [&](const Bytes& part) {
      out.resize((out.size() + 15) & ~15ull, 0);
      const std::size_t at = out.size();
      out.insert(out.end(), part.begin(), part.end());
      return at;
    };
    const std::size_t code = append(code_), pcln = append(table), build = append(info),
                      mod = append(module), strings = append(Bytes(names.begin(), names.end()));
    Elf64_Shdr sections[6] = {};
    const auto section = [&](int n, const char* name, std::size_t at, std::size_t size) {
      sections[n].sh_name = static_cast<Elf64_Word>(names.find(name));
      sections[n].sh_type = SHT_PROGBITS;
      sections[n].sh_addr = kBase + at;
      sections[n].sh_offset = at;
      sections[n].sh_size = size;
    };
    section(1, ".text", code, code_.size());
    section(2, ".gopclntab", pcln, table.size());
    section(3, ".go.buildinfo", build, info.size());
    section(4, ".go.module", mod, module.size());
    section(5, "", strings, names.size());
    out.resize((out.size() + 15) & ~15ull, 0);
    const std::size_t heads = out.size();
    for (const Elf64_Shdr& s : sections) put(out, s);
    Elf64_Ehdr head{};
    std::memcpy(head.e_ident, ELFMAG, SELFMAG);
    head.e_ident[EI_CLASS] = ELFCLASS64;
    head.e_machine = EM_X86_64;
    head.e_phoff = sizeof head;
    head.e_phnum = 1;
    head.e_shoff = heads;
    head.e_shnum = 6;
    head.e_shstrndx = 5;
    head.e_shentsize = sizeof(Elf64_Shdr);
    std::memcpy(out.data(), &head, sizeof head);
    Elf64_Phdr segment{};
    segment.p_type = PT_LOAD;
    segment.p_flags = PF_X | PF_R;
    segment.p_vaddr = kBase;
    segment.p_filesz = out.size();
    std::memcpy(out.data() + sizeof head, &segment, sizeof segment);
    return out;
  }

 private:
  struct Function {
    std::string name;
    std::size_t at;
  };

  Bytes build_info() const {
    Bytes out(32, 0);
    std::memcpy(out.data(), "\xff Go buildinf:", 14);
    out[14] = 8;
    out[15] = 2;
    out.push_back(static_cast<std::uint8_t>(version.size()));
    out.insert(out.end(), version.begin(), version.end());
    return out;
  }

  Bytes function_table() const {
    Bytes names{0}, table, details;
    for (std::size_t i = 0; i < functions_.size(); ++i) {
      put<std::uint32_t>(table, static_cast<std::uint32_t>(functions_[i].at));
      put<std::uint32_t>(table,
                         static_cast<std::uint32_t>(functions_.size() * 8 + 8 + details.size()));
      put<std::uint32_t>(details, static_cast<std::uint32_t>(functions_[i].at));
      put<std::uint32_t>(details, static_cast<std::uint32_t>(names.size()));
      names.insert(names.end(), functions_[i].name.begin(), functions_[i].name.end());
      names.push_back(0);
    }
    put<std::uint64_t>(table, code_.size());
    Bytes out;
    put<std::uint32_t>(out, 0xfffffff1);
    put<std::uint32_t>(out, 0x08010000);
    put<std::uint64_t>(out, functions_.size());
    put<std::uint64_t>(out, 1);
    put<std::uint64_t>(out, text_in_header ? kBase + kText : 0);
    put<std::uint64_t>(out, 72);  // names
    for (int i = 0; i < 4; ++i) put<std::uint64_t>(out, 72 + names.size());
    out.insert(out.end(), names.begin(), names.end());
    out.insert(out.end(), table.begin(), table.end());
    out.insert(out.end(), details.begin(), details.end());
    return out;
  }

  std::vector<Function> functions_;
  Bytes code_;
};

// cmp 0x10(%r14),%rsp; jbe; push %rbp; mov %rsp,%rbp; sub $0x58,%rsp; mov %rax,0x68(%rsp); then
// two places for calls; ret.
const Bytes kBody = {0x49, 0x3b, 0x66, 0x10, 0x76, 0x20, 0x55, 0x48, 0x89, 0xe5, 0x48,
                     0x83, 0xec, 0x58, 0x48, 0x89, 0x44, 0x24, 0x68, 0x90, 0x90, 0x90,
                     0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3};
constexpr std::size_t kFirstCall = 19, kSecondCall = 24;

struct Tls {
  Program program;
  std::size_t read, write, record, client, server, copy;

  Tls() {
    for (int n = 0; n < 3000; ++n) program.function("main.f" + std::to_string(n), {0xc3});
    copy = program.function("runtime.memmove", {0xc3});
    record = program.function("crypto/tls.(*Conn).writeRecordLocked", kBody);
    write = program.function("crypto/tls.(*Conn).Write", kBody);
    read = program.function("crypto/tls.(*Conn).Read", kBody);
    client = program.function("crypto/tls.(*Conn).clientHandshake", kBody);
    server = program.function("crypto/tls.(*Conn).serverHandshake", kBody);
    program.function("crypto/tls.(*Conn).serverHandshake-fm", kBody);
    program.call(read + kFirstCall, copy);
    program.call(write + kFirstCall, record);
    program.call(write + kSecondCall, record);
  }
};

LibrarySites sites_of(const Bytes& bytes) {
  const UniqueFd fd(memfd_create("program", MFD_CLOEXEC));
  EXPECT_EQ(::write(fd.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  const auto file = ElfFile::read(fd.get());
  return file ? find_sites(*file, false) : LibrarySites{};
}

TEST(GoSites, AreFoundByTheTableOfFunctions) {
  for (const bool text_in_header : {true, false}) {
    Tls tls;
    tls.program.text_in_header = text_in_header;
    const LibrarySites found = sites_of(tls.program.file());
    EXPECT_EQ(found.library, "crypto/tls of Go 1.26.1");
    ASSERT_EQ(found.why_not(), "");
    std::vector<std::uint64_t> at;
    for (const Site& site : found.all()) {
      EXPECT_TRUE(site.go());
      at.push_back(site.offset - kText);
      EXPECT_EQ(site.cookie(), site.kind == OLLY_TLS_GO_READ ? site.kind | 0x68u << 16 : site.kind);
    }
    EXPECT_EQ(
        at, (std::vector<std::uint64_t>{tls.read + kFirstCall, tls.write + kFirstCall,
                                        tls.write + kSecondCall, tls.client + 4, tls.server + 4}));
  }
}

TEST(GoSites, AreRefusedWhereTheCodeIsAnother) {
  const auto why = [](auto&& change) {
    Tls tls;
    change(tls);
    return sites_of(tls.program.file()).why_not();
  };
  EXPECT_NE(why([](Tls& t) { t.program.call(t.read + kSecondCall, t.copy); }).find("2 places"),
            std::string::npos);
  EXPECT_NE(why([](Tls& t) { t.program.call(t.read + kFirstCall, t.write); }).find("0 places"),
            std::string::npos);
  EXPECT_NE(why([](Tls& t) { t.program.version = "go1.28.0"; }).find("1.18 to"), std::string::npos);
  EXPECT_NE(why([](Tls& t) { t.program.version = "go1.17.9"; }).find("1.18 to"), std::string::npos);
  EXPECT_NE(why([](Tls& t) { t.program.version = "devel go1.26"; }).find("1.18 to"),
            std::string::npos);
}

TEST(GoSites, NoneWithoutCryptoTls) {
  Program program;
  program.function("main.main", {0xc3});
  EXPECT_EQ(sites_of(program.file()).library, "");
}

// The program is not trusted, whatever its table says.
TEST(GoSites, OfABrokenProgram) {
  const Tls tls;
  const Bytes whole = tls.program.file();
  std::mt19937 random(11);
  for (int round = 0; round < 300; ++round) {
    Bytes broken = whole;
    // The heads of the file, of the table, of its end; anything.
    const std::size_t areas[] = {0, whole.size() - 4096, whole.size() * 7 / 8, whole.size() / 2, 0};
    const std::size_t from = areas[round % 5];
    const std::size_t reach =
        round % 5 == 4 ? whole.size() : std::min<std::size_t>(4096, whole.size() - from);
    for (int i = 0; i < 1 + round % 40; ++i) {
      broken[from + random() % reach] =
          random() % 3 == 0 ? std::uint8_t{0xff} : static_cast<std::uint8_t>(random());
    }
    std::copy_n(whole.begin(), 20, broken.begin());  // still an ELF file of x86-64
    if (round % 7 == 0) broken.resize(random() % broken.size());
    const LibrarySites found = sites_of(broken);
    for (const Site& site : found.all()) EXPECT_LT(site.offset, broken.size());
  }
}

// A table whose entries point to and fro must not keep the agent busy: each jump is a read.
TEST(GoSites, OfATableThatJumps) {
  Tls tls;
  for (int n = 0; n < 30000; ++n) tls.program.function("g", {});
  Bytes file = tls.program.file();
  constexpr std::uint8_t kMagic[] = {0xf1, 0xff, 0xff, 0xff};
  const auto at = std::search(file.begin(), file.end(), std::begin(kMagic), std::end(kMagic));
  ASSERT_NE(at, file.end());
  const auto table = static_cast<std::size_t>(at - file.begin());
  std::uint64_t functions = 0;
  std::memcpy(&functions, file.data() + table + 64, 8);
  for (std::uint32_t i = 0; i < 33000; ++i) {
    const std::uint32_t far = i % 2 == 0 ? 0 : 400000;
    std::memcpy(file.data() + table + functions + std::size_t{i} * 8 + 4, &far, 4);
  }
  EXPECT_NE(sites_of(file).why_not(), "");
}

}  // namespace
}  // namespace olly::tls
