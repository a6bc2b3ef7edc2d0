// Fuzz target: one connection of MySQL's protocol through Tracker and Stream, with a login in front
// of it, also in TLS (or met in its middle). The input is a script: a byte that says what was
// negotiated, then per step one control byte (direction, loss, cut capture, raw, time) and a
// length, then payload. Unless raw, the payload gets a packet's header with the sequence id that is
// due, and, where compression was negotiated, is inside a packet of that. After every step the
// bytes must add up, and every exchange that began must be finished exactly once.
#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "connection.h"

namespace {

using namespace olly;
using olly::fuzz::Run;

void append(std::string& to, std::uint8_t sequence, std::string_view payload) {
  to += static_cast<char>(payload.size());
  to += static_cast<char>(payload.size() >> 8);
  to += static_cast<char>(payload.size() >> 16);
  to += static_cast<char>(sequence);
  to += payload;
}

std::string little(std::uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i));
  return out;
}

// A packet of the compressed protocol.
std::string packed(std::uint8_t sequence, const std::string& content, bool deflate) {
  std::string inside = content;
  if (deflate) {
    uLongf size = compressBound(content.size());
    inside.resize(size);
    compress2(reinterpret_cast<Bytef*>(inside.data()), &size,
              reinterpret_cast<const Bytef*>(content.data()), content.size(), 1);
    inside.resize(size);
  }
  return little(inside.size(), 3) + static_cast<char>(sequence) +
         little(deflate ? content.size() : 0, 3) + inside;
}

// Greeting, login and OK, seen from the client; `tls`: the login in TLS, behind an SSLRequest.
void log_in(Run& run, std::uint64_t capabilities, bool tls) {
  if (tls) capabilities |= 1 << 11;
  const std::string extended = little(capabilities >> 32, 4);
  const std::string zeros(19, '\0');
  std::string greeting(
      "\x0a"
      "11.4.2-MariaDB\0"
      "1234saltsalt\0",
      29);
  greeting += little(capabilities & 0xffff, 2) + "\x2d" + little(2, 2) +
              little(capabilities >> 16 & 0xffff, 2) + "\x15" + zeros.substr(0, 6) + extended +
              std::string("saltsaltsalt\0native\0", 20);
  std::uint8_t sequence = 0;
  const auto packet = [&](Direction d, std::string_view payload) {
    std::string bytes;
    append(bytes, sequence++, payload);
    run.call(d, as_bytes(bytes));
  };
  packet(Direction::recv, greeting);
  const std::string asks = little(capabilities, 4) + little(1 << 24, 4) + "\x2d" + zeros + extended;
  if (tls) {
    packet(Direction::send, asks);
    run.begin_plaintext();
  }
  packet(Direction::send, asks + std::string("joe\0\x02pwshop\0", 12));
  packet(Direction::recv, std::string_view("\0\0\0\2\0\0\0", 7));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const std::uint8_t mode = *data++;
  --size;
  Run run(Run::from((mode & 1) != 0 ? 0x80 : 0));
  if ((mode & 1) == 0) {
    std::uint64_t capabilities = 1 << 9 | 1 << 15 | 1 << 3;
    if ((mode & 2) != 0) capabilities |= 1 << 24;                  // CLIENT_DEPRECATE_EOF
    if ((mode & 4) != 0) capabilities |= 1 << 23;                  // CLIENT_SESSION_TRACK
    if ((mode & 8) != 0) capabilities |= 1 << 27;                  // CLIENT_QUERY_ATTRIBUTES
    if ((mode & 16) != 0) capabilities |= std::uint64_t{1} << 36;  // MariaDB's metadata caching
    if ((mode & 32) != 0) capabilities |= 1 << 5;                  // CLIENT_COMPRESS
    log_in(run, capabilities, (mode & 64) != 0);
  }
  std::uint8_t sequence = 0;
  std::string packet;
  while (size >= 2) {
    const std::uint8_t control = data[0];
    const std::size_t length = std::min<std::size_t>(data[1], size - 2);
    const Direction d = (control & 1) != 0 ? Direction::send : Direction::recv;
    const std::string_view payload = as_text({data + 2, length});
    if ((control & 6) == 6) run.lose(d, data[1]);
    const bool raw = (control & 0x80) != 0;
    if (!raw) {
      packet.clear();
      // A command begins anew; a file's parts count on.
      if (d == Direction::send && (control & 4) == 0) sequence = 0;
      append(packet, sequence++, payload);
      if ((mode & 33) == 32) packet = packed(sequence, packet, (control & 8) != 0);
    }
    run.call(d, as_bytes(raw ? payload : std::string_view(packet)),
             (control & 0x30) == 0x30 ? 5 : 0, (control & 0x48) == 0x48);
    if ((control & 0x40) != 0) run.advance(3 * kMillisecond);
    data += 2 + length;
    size -= 2 + length;
  }
  run.close();
  return 0;
}
