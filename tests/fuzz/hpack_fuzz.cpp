// Fuzz target: header blocks of one direction. The input is length-prefixed blocks; a length of 0
// stands for bytes that were lost. The table must keep its own account and its bound, and a decoder
// that missed the beginning must never say otherwise than one that did not.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "protocol/http2/head.h"
#include "protocol/http2/hpack.h"

namespace {

using namespace olly::http2;

std::uint8_t every_name(std::string_view) noexcept { return 1; }

void check(bool ok) {
  if (!ok) std::abort();
}

struct Told {
  bool known;
  std::string name, value;
};

HpackError decode(HpackDecoder& hpack, olly::ByteView block, std::vector<Told>& out) {
  out.clear();
  return hpack.decode(block, [&](const Field& f) {
    if (out.size() < 1000) {
      out.push_back({f.known && f.value_kept, std::string(f.name), std::string(f.value)});
    }
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  HpackDecoder whole(&every_name);
  HpackDecoder late(&every_name);
  HpackDecoder choosy(&name_of);
  late.forget();
  Head head;
  std::vector<Told> a;
  std::vector<Told> b;
  while (size >= 1) {
    const std::size_t length = std::min<std::size_t>(data[0], size - 1);
    const olly::ByteView block(data + 1, length);
    data += 1 + length;
    size -= 1 + length;
    if (length == 0) {
      late.forget();
      continue;
    }
    if (decode(whole, block, a) != HpackError::none) break;
    check(whole.table().cost() <= whole.table().limit());
    check(whole.table().limit() <= kMaxTable);
    check(whole.table().memory() <= 8 * kMaxTable);
    check(decode(late, block, b) == HpackError::none);
    check(a.size() == b.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (b[i].known && a[i].known) check(a[i].name == b[i].name && a[i].value == b[i].value);
    }
    head.clear();
    check(choosy.decode(block, [&](const Field& f) { head.add(f); }) == HpackError::none);
    check(choosy.table().cost() == whole.table().cost());
    (void)head.fields();
    (void)head.grpc_timeout();
    (void)head.status();
  }
  return 0;
}
