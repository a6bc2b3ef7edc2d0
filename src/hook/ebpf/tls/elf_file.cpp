#include "hook/ebpf/tls/elf_file.h"

#include <elf.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace olly::tls {
namespace {

constexpr std::uint64_t kMaxFile = 1ull << 32;
// Of one table of the file (symbols, names, relocations).
constexpr std::uint64_t kMaxTable = 32ull << 20;
constexpr std::uint64_t kPage = 4096;
constexpr std::size_t kMaxPages = 512;
constexpr std::size_t kMaxSymbols = 1u << 18;
constexpr std::size_t kMaxRelocations = 64;  // sections of them
constexpr std::size_t kMaxName = 256;
constexpr std::uint64_t kMaxSectionNames = 64 * 1024;
constexpr std::uint32_t kGoBuildId = 4;  // the type of Go's note, whose text is printable

// Only what the programs that use TLS call: a file may export a hundred thousand functions.
bool of_interest(std::string_view name) noexcept {
  return name.starts_with("SSL_") || name.starts_with("TLS_") || name.starts_with("gnutls_");
}

// Sections that are kept by name.
bool of_use(std::string_view name) noexcept {
  return name == ".text" || name == ".gopclntab" || name == ".data.rel.ro.gopclntab" ||
         name == ".go.module";
}

std::string_view text_at(ByteView table, std::uint64_t offset) noexcept {
  if (offset >= table.size()) return {};
  const auto* text = reinterpret_cast<const char*>(table.data() + offset);
  return {text, strnlen(text, std::min<std::size_t>(table.size() - offset, kMaxName))};
}

template <class T>
T value_at(ByteView bytes, std::size_t index) noexcept {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

}  // namespace

std::vector<std::uint8_t> ElfFile::bytes(std::uint64_t offset, std::uint64_t size) const {
  std::vector<std::uint8_t> out;
  if (offset > size_) return out;
  size = std::min({size, size_ - offset, kMaxTable});
  out.resize(size);
  std::size_t have = 0;
  while (have < size) {
    const ssize_t n =
        ::pread(fd_, out.data() + have, size - have, static_cast<off_t>(offset + have));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    have += static_cast<std::size_t>(n);
  }
  out.resize(have);
  return out;
}

Result<ElfFile> ElfFile::read(int fd) {
  ElfFile file;
  struct stat status {};
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    return fail(ErrorCode::unsupported, "no regular file");
  }
  file.fd_ = fd;
  file.size_ = static_cast<std::uint64_t>(status.st_size);
  if (auto ok = file.parse(); !ok) return std::unexpected(ok.error());
  return file;
}

Result<void> ElfFile::parse() {
  const auto first = bytes(0, sizeof(Elf64_Ehdr));
  if (first.size() < sizeof(Elf64_Ehdr) || std::memcmp(first.data(), ELFMAG, SELFMAG) != 0) {
    return fail(ErrorCode::unsupported, "no ELF file");
  }
  const auto head = value_at<Elf64_Ehdr>(first, 0);
  if (head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_machine != EM_X86_64) {
    return fail(ErrorCode::unsupported, "no ELF file of x86-64");
  }
  const auto programs = bytes(head.e_phoff, std::uint64_t{head.e_phnum} * sizeof(Elf64_Phdr));
  for (std::size_t i = 0; (i + 1) * sizeof(Elf64_Phdr) <= programs.size(); ++i) {
    const auto p = value_at<Elf64_Phdr>(programs, i);
    if (p.p_type != PT_LOAD || p.p_offset > kMaxFile || p.p_filesz > kMaxFile) continue;
    segments_.push_back({p.p_vaddr, p.p_offset, p.p_filesz, (p.p_flags & PF_X) != 0});
  }
  const auto sections = bytes(head.e_shoff, std::uint64_t{head.e_shnum} * sizeof(Elf64_Shdr));
  const std::size_t count = sections.size() / sizeof(Elf64_Shdr);
  std::vector<std::uint8_t> names;
  if (head.e_shstrndx < count) {
    const auto s = value_at<Elf64_Shdr>(sections, head.e_shstrndx);
    names = bytes(s.sh_offset, std::min<std::uint64_t>(s.sh_size, kMaxSectionNames));
  }
  for (std::size_t i = 0; i < count; ++i) {
    const auto s = value_at<Elf64_Shdr>(sections, i);
    if (const std::string_view name = text_at(names, s.sh_name); of_use(name)) {
      sections_.try_emplace(std::string(name), Section{s.sh_addr, s.sh_offset, s.sh_size});
    }
    if (s.sh_type == SHT_NOTE && build_id_.empty()) read_build_id({s.sh_offset, s.sh_size});
    if (s.sh_type == SHT_RELA && relocations_.size() < kMaxRelocations)
      relocations_.push_back({s.sh_offset, s.sh_size});
    if (s.sh_type != SHT_DYNSYM || s.sh_link >= count || !symbols_.empty()) continue;
    const auto strings = value_at<Elf64_Shdr>(sections, s.sh_link);
    read_symbols({s.sh_offset, s.sh_size}, {strings.sh_offset, strings.sh_size});
  }
  for (const Range& r : relocations_) read_imports(r);
  return {};
}

void ElfFile::read_symbols(Range symbols, Range strings) {
  const auto table = bytes(symbols.offset, symbols.size);
  const auto names = bytes(strings.offset, strings.size);
  const std::size_t count = std::min(table.size() / sizeof(Elf64_Sym), kMaxSymbols);
  symbols_.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto symbol = value_at<Elf64_Sym>(table, i);
    if (symbol.st_shndx == SHN_UNDEF) {
      symbols_[i] = text_at(names, symbol.st_name);
      continue;
    }
    if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC) continue;
    const std::string_view name = text_at(names, symbol.st_name);
    if (!of_interest(name)) continue;
    symbols_[i] = name;
    functions_.try_emplace(std::string(name), symbol.st_value);
    sizes_.try_emplace(symbol.st_value, symbol.st_size);
  }
}

void ElfFile::read_imports(Range relocations) {
  const auto table = bytes(relocations.offset, relocations.size);
  for (std::size_t i = 0; (i + 1) * sizeof(Elf64_Rela) <= table.size(); ++i) {
    const auto r = value_at<Elf64_Rela>(table, i);
    const std::uint64_t type = ELF64_R_TYPE(r.r_info);
    const std::uint64_t symbol = ELF64_R_SYM(r.r_info);
    if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT) continue;
    if (symbol < symbols_.size() && !symbols_[symbol].empty()) {
      imports_[r.r_offset] = symbols_[symbol];
    }
  }
}

void ElfFile::read_build_id(Range range) {
  const auto note = bytes(range.offset, std::min<std::uint64_t>(range.size, 256));
  if (note.size() < sizeof(Elf64_Nhdr)) return;
  const auto head = value_at<Elf64_Nhdr>(note, 0);
  const std::size_t begin = sizeof head + ((std::uint64_t{head.n_namesz} + 3) & ~3ull);
  if (head.n_namesz != 4 || head.n_descsz > 128 || begin + head.n_descsz > note.size()) return;
  const ByteView id = ByteView(note).subspan(begin, head.n_descsz);
  const std::string_view owner = text_at(note, sizeof head);
  if (head.n_type == NT_GNU_BUILD_ID && owner.starts_with("GNU")) {
    for (const std::uint8_t byte : id) build_id_ += fmt::format("{:02x}", byte);
  } else if (head.n_type == kGoBuildId && owner.starts_with("Go")) {
    build_id_.assign(id.begin(), std::find_if(id.begin(), id.end(),
                                              [](std::uint8_t c) { return c <= ' ' || c > '~'; }));
  }
}

std::uint64_t ElfFile::function(std::string_view name) const noexcept {
  const auto found = functions_.find(name);
  return found == functions_.end() ? 0 : found->second;
}

const ElfFile::Section* ElfFile::section(std::string_view name) const noexcept {
  const auto found = sections_.find(name);
  return found == sections_.end() ? nullptr : &found->second;
}

std::uint64_t ElfFile::size_of(std::uint64_t function) const noexcept {
  const auto found = sizes_.find(function);
  return found == sizes_.end() ? 0 : found->second;
}

const ElfFile::Segment* ElfFile::segment(std::uint64_t address) const noexcept {
  for (const Segment& s : segments_) {
    if (address >= s.address && address - s.address < s.size) return &s;
  }
  return nullptr;
}

ByteView ElfFile::code(std::uint64_t address) const {
  const Segment* s = segment(address);
  if (s == nullptr || !s->executable) return {};
  const std::uint64_t skip = address - s->address;
  const std::uint64_t offset = s->offset + skip;
  const std::uint64_t page = offset / kPage;
  auto found = pages_.find(page);
  if (found == pages_.end()) {
    if (pages_.size() >= kMaxPages) return {};
    // A little of the next one: an instruction may reach into it.
    found = pages_.emplace(page, bytes(page * kPage, kPage + 16)).first;
  }
  const ByteView all(found->second);
  const std::uint64_t within = offset - page * kPage;
  if (within >= all.size()) return {};
  return all.subspan(within, std::min<std::uint64_t>(all.size() - within, s->size - skip));
}

std::uint64_t ElfFile::offset_of(std::uint64_t address) const noexcept {
  const Segment* s = segment(address);
  return s == nullptr ? 0 : s->offset + (address - s->address);
}

std::uint64_t ElfFile::pointer_at(std::uint64_t address) const {
  for (const Range& range : relocations_) {
    const auto table = bytes(range.offset, range.size);
    for (std::size_t i = 0; (i + 1) * sizeof(Elf64_Rela) <= table.size(); ++i) {
      const auto r = value_at<Elf64_Rela>(table, i);
      if (r.r_offset == address && ELF64_R_TYPE(r.r_info) == R_X86_64_RELATIVE) {
        return static_cast<std::uint64_t>(r.r_addend);
      }
    }
  }
  const Segment* s = segment(address);
  if (s == nullptr || s->size - (address - s->address) < 8) return 0;
  const auto value = bytes(s->offset + (address - s->address), 8);
  return value.size() == 8 ? value_at<std::uint64_t>(value, 0) : 0;
}

std::string_view ElfFile::import_at(std::uint64_t address) const noexcept {
  const auto found = imports_.find(address);
  return found == imports_.end() ? std::string_view() : std::string_view(found->second);
}

}  // namespace olly::tls
