// Fuzz target: the MongoDB parsers on any bytes, cut off anywhere, and one connection through
// Tracker and Stream with only this protocol in the registry: the input as a script of calls
// (http1_fuzz.cpp), and, where it begins with a message, that message followed by the script.
#include <algorithm>
#include <cstdint>

#include "connection.h"
#include "protocol/mongodb/bson.h"
#include "protocol/mongodb/decompress.h"
#include "protocol/mongodb/parse.h"
#include "protocol/registry.h"

namespace {

using namespace olly;
using olly::fuzz::check;

void parse_all(ByteView bytes) {
  static mongodb::Decompressor decompressor;
  mongodb::Header header;
  if (mongodb::look_at_message(bytes, header) == mongodb::Start::yes) {
    check(bytes.size() >= std::min<std::size_t>(header.length, mongodb::kDetect));
  }
  if (mongodb::look_at_header(bytes, header) != mongodb::Start::yes) return;
  ByteView body = bytes.subspan(mongodb::kHeader);
  std::size_t size = header.length - mongodb::kHeader;
  body = body.first(std::min(body.size(), size));
  mongodb::Opcode opcode = header.opcode;
  if (opcode == mongodb::Opcode::compressed) {
    mongodb::Compressed packed;
    if (mongodb::parse_compressed(body, packed) != mongodb::MessageError::none) return;
    body = decompressor.prefix(packed);
    check(body.size() <= packed.size);
    size = packed.size;
    opcode = packed.opcode;
  }
  mongodb::Command command;
  if (mongodb::parse_command(opcode, body, size, command) == mongodb::MessageError::none) {
    check(!command.operation.empty());
  }
  mongodb::Reply reply;
  mongodb::parse_reply(opcode, body, size, true, reply);
  mongodb::parse_reply(opcode, body, size, false, reply);
}

conntrack::TrackerOptions only_mongodb() {
  conntrack::TrackerOptions options;
  for (const ProtocolInfo& p : protocols()) {
    if (p.name != "mongodb") options.disabled_protocols.emplace_back(p.name);
  }
  return options;
}

// `first` is received before the script begins.
void play(const std::uint8_t* data, std::size_t size, ByteView first) {
  fuzz::Run run(fuzz::Run::from(size > 0 ? data[0] : 0), only_mongodb());
  if (!first.empty()) run.call(Direction::recv, first);
  fuzz::steps(run, data, size);
  run.close();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView bytes{data, size};
  parse_all(bytes);
  play(data, size, {});
  // As a connection: the message as it says it is long, then calls made of what follows.
  mongodb::Header header;
  if (mongodb::look_at_header(bytes, header) == mongodb::Start::yes) {
    const std::size_t n = std::min<std::size_t>(size, header.length);
    play(data + n, size - n, bytes.first(n));
  }
  return 0;
}
