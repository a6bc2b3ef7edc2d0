// Fuzz target: one connection (connection.h) that speaks Redis' protocol, as a script; and the same
// bytes as they are, as commands and as replies: so testdata/ is a corpus.
#include <algorithm>
#include <cstdint>
#include <string_view>

#include "connection.h"

namespace {

using namespace olly;
using olly::fuzz::Run;

void pieces(Run& run, Direction d, ByteView bytes, std::size_t piece) {
  while (!bytes.empty()) {
    const std::size_t n = std::min(piece, bytes.size());
    run.call(d, bytes.first(n), 0, false, 10 * kMicrosecond);
    bytes = bytes.subspan(n);
  }
}

// As the replies to one command of each kind, and as commands.
void vectors(ByteView data) {
  static constexpr std::string_view kCommands =
      "*1\r\n$4\r\nPING\r\n*1\r\n$5\r\nMULTI\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n*1\r\n$"
      "4\r\nEXEC\r\n"
      "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n*3\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n$1\r\nb\r\n"
      "*1\r\n$11\r\nUNSUBSCRIBE\r\n*1\r\n$5\r\nRESET\r\n*1\r\n$7\r\nMONITOR\r\n";
  const std::size_t piece = 1 + data.size() % 5;
  Run replies({0, 0});
  replies.call(Direction::recv, as_bytes(kCommands), 0, false, 1);
  pieces(replies, Direction::send, data, piece);
  replies.advance(10 * kMillisecond);
  replies.close();
  Run commands({0, 0});
  pieces(commands, Direction::recv, data, piece);
  commands.call(Direction::send, as_bytes(std::string_view("+PONG\r\n")), 0, false, 1);
  commands.advance(10 * kMillisecond);
  pieces(commands, Direction::send, data, piece);
  commands.close();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  vectors({data, size});
  olly::fuzz::play(data, size);
  return 0;
}
