#include "hook/ebpf/tls/go_sites.h"

#include <fmt/format.h>

#include <array>
#include <optional>

#include "base/go_build.h"
#include "hook/ebpf/kernel_abi.h"
#include "hook/ebpf/tls/code.h"
#include "hook/ebpf/tls/go_functions.h"

namespace olly::tls {
namespace {

using Kind = Instruction::Kind;

// Of Go 1.N: those whose programs were looked at.
constexpr int kOldest = 18;
constexpr int kNewest = 27;
constexpr std::uint64_t kMaxFunction = 64 * 1024;
constexpr std::size_t kMaxWrites = 4;

constexpr std::array<std::string_view, 6> kNames = {
    "crypto/tls.(*Conn).Read",
    "crypto/tls.(*Conn).Write",
    "crypto/tls.(*Conn).writeRecordLocked",
    "crypto/tls.(*Conn).clientHandshake",
    "crypto/tls.(*Conn).serverHandshake",
    "runtime.memmove",
};
enum Name { kRead, kWrite, kWriteRecord, kClientHandshake, kServerHandshake, kMemmove };

// The calls of `target` in a function; nothing: what is there is not all code.
std::optional<std::vector<std::uint64_t>> calls_of(const Decoder& decoder, const GoFunction& f,
                                                   std::uint64_t target) {
  std::vector<std::uint64_t> out;
  if (f.end - f.entry > kMaxFunction) return std::nullopt;
  Instruction i;
  for (std::uint64_t at = f.entry; at < f.end; at = i.next()) {
    if (!decoder.decode(at, i)) return std::nullopt;
    if (i.kind == Kind::call && i.target == target && i.emulated) out.push_back(at);
  }
  return out;
}

std::uint64_t little_endian(ByteView bytes, std::size_t n) noexcept {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < n && i < bytes.size(); ++i) {
    value |= std::uint64_t{bytes[i]} << (8 * i);
  }
  return value;
}

// `opcode modrm [sib]`, then a displacement or immediate of 8 bits, or, as the second form, of 32.
std::optional<std::uint64_t> operand(ByteView b, std::initializer_list<std::uint8_t> with8,
                                     std::initializer_list<std::uint8_t> with32) {
  const auto is = [&](std::initializer_list<std::uint8_t> form, std::size_t width) {
    return b.size() >= form.size() + width && std::equal(form.begin(), form.end(), b.begin());
  };
  if (is(with8, 1)) return b[with8.size()];
  if (is(with32, 4)) return little_endian(b.subspan(with32.size()), 4);
  return std::nullopt;
}

// Where in its frame a function keeps its first argument: in the caller's place for it, right
// behind the return address. Distance from the stack pointer once the frame stands.
std::optional<std::uint64_t> home_of_first(const ElfFile& file, const Decoder& decoder,
                                           std::uint64_t entry) {
  std::uint64_t frame = 0;
  Instruction i;
  int n = 0;
  for (std::uint64_t at = entry; n < 32 && decoder.decode(at, i); at = i.next(), ++n) {
    const ByteView b = file.code(at);
    if (b[0] == 0x55) frame += 8;  // push %rbp
    if (const auto size = operand(b, {0x48, 0x83, 0xec}, {0x48, 0x81, 0xec})) frame += *size;
    if (b.size() >= 4 && b[0] == 0x48 && b[1] == 0x83 && b[2] == 0xc4) frame += 0x100u - b[3];
    // mov %rax,disp(%rsp)
    if (const auto to = operand(b, {0x48, 0x89, 0x44, 0x24}, {0x48, 0x89, 0x84, 0x24});
        to && *to == frame + 8 && frame != 0) {
      return to;
    }
    if (i.kind != Kind::plain && i.kind != Kind::branch) break;
    if ((i.writes & kRax) != 0) break;
  }
  return std::nullopt;
}

// The jump to morestack. A stack that is too small passes it twice, which does no harm.
std::optional<std::uint64_t> first_jump(const Decoder& decoder, std::uint64_t entry) {
  Instruction i;
  int n = 0;
  for (std::uint64_t at = entry; n < 6 && decoder.decode(at, i); at = i.next(), ++n) {
    if (i.kind == Kind::branch && i.emulated) return at;
    if (i.kind != Kind::plain || (i.writes & kRax) != 0) break;
  }
  return std::nullopt;
}

Site site_at(const ElfFile& file, std::uint64_t address, std::uint32_t kind,
             std::uint64_t home = 0) {
  Site site;
  site.offset = file.offset_of(address);
  site.kind = kind;
  site.home = static_cast<std::uint16_t>(home);
  return site;
}

FunctionSites of_read(const ElfFile& file, const Decoder& decoder, const GoFunction& read,
                      const GoFunction& memmove) {
  FunctionSites f{"(*Conn).Read", OLLY_TLS_GO_READ, {}, {}};
  const auto copies = calls_of(decoder, read, memmove.entry);
  const auto home = home_of_first(file, decoder, read.entry);
  if (!copies || copies->size() != 1) {
    f.refused = fmt::format("{} places that copy plaintext, not 1", copies ? copies->size() : 0);
  } else if (!home || *home > 0xffff) {
    f.refused = "its frame is not understood";
  } else {
    f.sites.push_back(site_at(file, copies->front(), f.kind, *home));
  }
  return f;
}

FunctionSites of_write(const ElfFile& file, const Decoder& decoder, const GoFunction& write,
                       const GoFunction& record) {
  FunctionSites f{"(*Conn).Write", OLLY_TLS_GO_WRITE, {}, {}};
  const auto calls = calls_of(decoder, write, record.entry);
  if (!calls || calls->empty() || calls->size() > kMaxWrites) {
    f.refused = fmt::format("{} places that write records", calls ? calls->size() : 0);
    return f;
  }
  for (const std::uint64_t at : *calls) f.sites.push_back(site_at(file, at, f.kind));
  return f;
}

FunctionSites of_handshake(const ElfFile& file, const Decoder& decoder, const GoFunction& client,
                           const GoFunction& server) {
  FunctionSites f{"handshakes", OLLY_TLS_GO_HANDSHAKE, {}, {}};
  for (const GoFunction& function : {client, server}) {
    if (function.entry == 0) continue;
    const auto at = first_jump(decoder, function.entry);
    if (!at) {
      f.refused = "no jump to morestack";
      f.sites.clear();
      return f;
    }
    f.sites.push_back(site_at(file, *at, f.kind));
  }
  if (f.sites.empty()) f.refused = "not found";
  return f;
}

}  // namespace

LibrarySites find_go_sites(const ElfFile& file) {
  LibrarySites library;
  const GoBuild build = go_build_of(file.fd());
  if (!build.is_go) return library;
  const auto functions = find_go_functions(file, kNames);
  if (functions && (*functions)[kRead].entry == 0) return library;
  library.library =
      fmt::format("crypto/tls of Go {}", build.version.empty() ? "before 1.18" : build.version);
  library.build_id = file.build_id();
  const auto refuse = [&](std::string why) {
    library.functions.push_back({"(*Conn)", OLLY_TLS_GO_READ, {}, std::move(why)});
    return library;
  };
  if (build.minor < kOldest || build.minor > kNewest) {
    return refuse(fmt::format("known are Go 1.{} to 1.{}", kOldest, kNewest));
  }
  if (!functions) return refuse(functions.error().message);
  const Decoder decoder(file);
  const auto& f = *functions;
  library.functions.push_back(of_read(file, decoder, f[kRead], f[kMemmove]));
  library.functions.push_back(of_write(file, decoder, f[kWrite], f[kWriteRecord]));
  library.functions.push_back(
      of_handshake(file, decoder, f[kClientHandshake], f[kServerHandshake]));
  return library;
}

}  // namespace olly::tls
