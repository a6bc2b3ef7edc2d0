// Fuzz target: one connection (connection.h) that speaks, more or less, HTTP/1.
#include "connection.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  olly::fuzz::play(data, size);
  return 0;
}
