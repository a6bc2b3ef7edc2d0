// Fuzz target: one connection (connection.h) that speaks, more or less, PostgreSQL's protocol. The
// same script as HTTP/1's; a corpus of its own makes the difference.
#include "connection.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  olly::fuzz::play(data, size);
  return 0;
}
