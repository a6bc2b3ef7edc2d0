// Fuzz target: one connection (connection.h) that speaks, more or less, HTTP/1. The input is a
// script: per step one control byte and a length, then payload.
#include "connection.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace olly;
  const bool met = size > 0 && (data[0] & 0x80) != 0;
  fuzz::Run run(met ? std::array<std::uint64_t, 2>{1000, 2000} : std::array<std::uint64_t, 2>{});
  while (size >= 2) {
    const std::size_t length = std::min<std::size_t>(data[1], size - 2);
    run.step(data[0], data[1], {data + 2, length});
    data += 2 + length;
    size -= 2 + length;
  }
  run.close();
  return 0;
}
