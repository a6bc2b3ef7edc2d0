#include "hook/ebpf/tls/sites.h"

#include <fmt/format.h>

#include <algorithm>

#include "hook/ebpf/kernel_abi.h"
#include "hook/ebpf/tls/finder.h"
#include "hook/ebpf/tls/go_sites.h"

namespace olly::tls {
namespace {

void add_results(FunctionSites& f, const ElfFile& file, const Finder& finder,
                 const std::vector<ResultSite>& results) {
  for (const ResultSite& r : results) {
    f.sites.push_back({.offset = file.offset_of(r.at),
                       .kind = f.kind,
                       .result = true,
                       .in = static_cast<std::uint8_t>(r.in),
                       .branch = r.goes_on != 0,
                       .goes_on = r.condition,
                       .depth = r.depth,
                       .arguments = r.arguments,
                       .dear = !finder.cheap(r.at)});
  }
}

struct Wanted {
  std::uint32_t kind;
  std::uint32_t registers;
  bool result;
};

FunctionSites sites_of(const ElfFile& file, const Finder& finder, std::string name,
                       std::uint64_t entry, const Wanted& wanted) {
  FunctionSites f;
  f.name = std::move(name);
  f.kind = wanted.kind;
  const auto arguments = finder.arguments(entry, wanted.registers);
  if (!arguments) {
    f.refused = "no cheap site while the arguments are intact";
    return f;
  }
  std::vector<ResultSite> results;
  const bool reads = wanted.kind == OLLY_TLS_READ || wanted.kind == OLLY_TLS_READ_EX;
  if (wanted.result && !finder.results(entry, arguments->at, reads, results, f.refused)) return f;
  f.refused.clear();
  f.sites.push_back(
      {.offset = file.offset_of(arguments->at), .kind = wanted.kind, .depth = arguments->depth});
  add_results(f, file, finder, results);
  return f;
}

constexpr std::uint32_t kThree = kRdi | kRsi | kRdx;
constexpr std::uint32_t kFour = kThree | kRcx;

// `plain` and `ex` are coats of one inner function, or stand for themselves.
void add_pair(LibrarySites& library, const ElfFile& file, const Finder& finder, const char* plain,
              const char* ex, std::uint32_t plain_kind, std::uint32_t ex_kind) {
  const std::uint64_t a = file.function(plain);
  const std::uint64_t b = file.function(ex);
  if (a != 0 && b != 0) {
    const std::vector<std::uint64_t> inner = finder.inner(a, b);
    if (!inner.empty()) {
      std::vector<ResultSite> results;
      const std::uint64_t method = finder.leaves_for(inner.front());
      FunctionSites one{fmt::format("{}, {}", plain, ex), ex_kind, {}, {}};
      if (method != 0 && finder.alone(method, ex_kind == OLLY_TLS_READ_EX, results, one.refused)) {
        one.refused.clear();
        add_results(one, file, finder, results);
        library.functions.push_back(std::move(one));
        return;
      }
    }
    for (const std::uint64_t at : inner) {
      FunctionSites f =
          sites_of(file, finder, fmt::format("{}, {}", plain, ex), at, {ex_kind, kFour, true});
      if (f.refused.empty()) {
        library.functions.push_back(std::move(f));
        return;
      }
    }
  }
  if (a != 0) {
    library.functions.push_back(sites_of(file, finder, plain, a, {plain_kind, kThree, true}));
  }
  if (b != 0) library.functions.push_back(sites_of(file, finder, ex, b, {ex_kind, kFour, true}));
}

void add_one(LibrarySites& library, const ElfFile& file, const Finder& finder, const char* name,
             const Wanted& wanted) {
  if (const std::uint64_t at = file.function(name); at != 0) {
    library.functions.push_back(sites_of(file, finder, name, at, wanted));
  }
}

// Few programs call it. Where its results cannot be had, an object that it is called for is not
// read any more.
void add_sendfile(LibrarySites& library, const ElfFile& file, const Finder& finder) {
  const std::uint64_t at = file.function("SSL_sendfile");
  if (at == 0) return;
  FunctionSites f =
      sites_of(file, finder, "SSL_sendfile", at, {OLLY_TLS_SENDFILE, kRdi | kRcx, true});
  if (!f.refused.empty()) {
    f = sites_of(file, finder, "SSL_sendfile (gives up)", at, {OLLY_TLS_GIVE_UP, kRdi, false});
  }
  library.functions.push_back(std::move(f));
}

}  // namespace

bool Site::go() const noexcept { return kind >= OLLY_TLS_GO_READ; }

std::uint64_t Site::cookie() const noexcept {
  if (go()) return kind | std::uint64_t{home} << OLLY_TLS_GO_HOME;
  if (!result) return kind | fields.cookie() | std::uint64_t{depth / 8} << OLLY_TLS_DEPTH_SHIFT;
  const std::uint64_t place = kind | OLLY_TLS_RESULT | std::uint64_t{in} << 12 |
                              (branch ? OLLY_TLS_BRANCH | std::uint64_t{goes_on} << 16 : 0);
  if (!arguments) return place | std::uint64_t{depth / 8} << OLLY_TLS_RESULT_DEPTH_SHIFT;
  return place | OLLY_TLS_ALONE | std::uint64_t{arguments->object} << 20 |
         std::uint64_t{arguments->buffer} << 28 | std::uint64_t{arguments->count} << 36 |
         std::uint64_t{arguments->check} << 44 | std::uint64_t{arguments->must_be} << 52;
}

bool LibrarySites::dear() const noexcept {
  return std::any_of(functions.begin(), functions.end(), [](const FunctionSites& f) {
    return std::any_of(f.sites.begin(), f.sites.end(), [](const Site& s) { return s.dear; });
  });
}

bool LibrarySites::usable() const noexcept { return why_not().empty(); }

std::string LibrarySites::why_not() const {
  if (library.empty()) return "no TLS library";
  bool reads = false, writes = false, forgets = false;
  std::string reasons;
  for (const FunctionSites& f : functions) {
    if (f.refused.empty()) {
      reads |= f.kind == OLLY_TLS_GO_READ || f.kind == OLLY_TLS_READ || f.kind == OLLY_TLS_READ_EX;
      writes |=
          f.kind == OLLY_TLS_GO_WRITE || f.kind == OLLY_TLS_WRITE || f.kind == OLLY_TLS_WRITE_EX;
      forgets |= f.kind == OLLY_TLS_FREE || f.kind == OLLY_TLS_GO_HANDSHAKE;
    } else {
      reasons += fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", f.name, f.refused);
    }
  }
  // Half of a library would be worse than none: bytes that bypass the probes are not counted.
  if (!reasons.empty()) return reasons;
  if (reads && writes && forgets) return {};
  return "it exports neither all of OpenSSL's nor all of GnuTLS's functions";
}

std::vector<Site> LibrarySites::all() const {
  std::vector<Site> out;
  for (const FunctionSites& f : functions) out.insert(out.end(), f.sites.begin(), f.sites.end());
  return out;
}

LibrarySites find_sites(const ElfFile& file, bool dear) {
  LibrarySites library = find_go_sites(file);
  if (!library.library.empty()) return library;
  library.build_id = file.build_id();
  const Finder finder(file, dear);
  if (file.function("SSL_read") != 0 && file.function("SSL_write") != 0) {
    const bool boring = file.function("SSL_CTX_set_grease_enabled") != 0;
    library.library = boring ? "BoringSSL" : "OpenSSL";
    add_pair(library, file, finder, "SSL_read", "SSL_read_ex", OLLY_TLS_READ, OLLY_TLS_READ_EX);
    add_pair(library, file, finder, "SSL_write", "SSL_write_ex", OLLY_TLS_WRITE, OLLY_TLS_WRITE_EX);
    add_sendfile(library, file, finder);
    // BoringSSL's SSL_new does not call SSL_clear, and what chooses the side has no cheap site: a
    // handshake of an object that is not known begins it.
    const std::uint32_t handshake = boring ? OLLY_TLS_FIRST : OLLY_TLS_HANDSHAKE;
    add_one(library, file, finder, "SSL_do_handshake", {handshake, kRdi, false});
    add_one(library, file, finder, "SSL_clear", {OLLY_TLS_CLEAR, kRdi, false});
    for (const char* name : {"SSL_set_connect_state", "SSL_set_accept_state"})
      if (!boring) add_one(library, file, finder, name, {OLLY_TLS_BEGIN, kRdi, false});
    add_one(library, file, finder, "SSL_free", {OLLY_TLS_FREE, kRdi, false});
    const ObjectFields fields = object_fields(file);
    for (FunctionSites& f : library.functions) {
      for (Site& site : f.sites) {
        if (!site.result) site.fields = fields;
      }
    }
  } else if (file.function("gnutls_record_recv") != 0) {
    library.library = "GnuTLS";
    add_one(library, file, finder, "gnutls_record_recv", {OLLY_TLS_READ, kThree, true});
    add_one(library, file, finder, "gnutls_record_send2", {OLLY_TLS_WRITE, kThree, true});
    add_one(library, file, finder, "gnutls_handshake", {OLLY_TLS_FIRST, kRdi, false});
    add_one(library, file, finder, "gnutls_deinit", {OLLY_TLS_FREE, kRdi, false});
  }
  return library;
}

}  // namespace olly::tls
