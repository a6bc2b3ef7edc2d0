// Fuzz target: one connection (connection.h) that speaks, more or less, HTTP/2. The input is a
// script: per step one control byte (connection.h), a length, a kind, then payload. By its kind the
// payload goes out as it is or gets the header of a frame that fits it, so that what lies behind
// the framing is reached.
#include <vector>

#include "connection.h"
#include "protocol/http2/frame.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace olly;
  if (size < 1) return 0;
  const std::uint8_t mode = data[0];
  const bool met = (mode & 1) != 0;
  fuzz::Run run(met ? std::array<std::uint64_t, 2>{1000, 2000} : std::array<std::uint64_t, 2>{});
  if ((mode & 2) != 0) run.step(mode & 0x20 ? 1 : 0, 0, as_bytes(http2::kPreface));
  if ((mode & 4) != 0) {
    run.step(0, 0,
             as_bytes("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"));
    run.step(1, 0, as_bytes("HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"));
    run.step(0, 0, as_bytes(http2::kPreface));
  }
  ++data, --size;
  std::vector<std::uint8_t> frame;
  while (size >= 3) {
    const std::size_t length = std::min<std::size_t>(data[1], size - 3);
    const std::uint8_t kind = data[2];
    const ByteView payload(data + 3, length);
    if (kind >= 0xc0) {
      run.step(data[0], data[1], payload);
    } else {
      // Type in the low bits; END_STREAM, END_HEADERS and the stream in the others.
      const std::uint8_t type = kind % 11;
      const auto flags = static_cast<std::uint8_t>((kind & 0x40) != 0 ? 5 : (kind & 0x20) >> 3);
      const bool of_stream = type != 4 && type != 6 && type != 7 && type != 8;
      const auto stream =
          static_cast<std::uint8_t>(of_stream ? 1 + 2 * (data[0] >> 7) + (kind >> 7) * 2 : 0);
      frame = {0, 0, static_cast<std::uint8_t>(length), type, flags, 0, 0, 0, stream};
      frame.insert(frame.end(), payload.begin(), payload.end());
      run.step(data[0] & 0x7f, data[1], frame);
    }
    data += 3 + length;
    size -= 3 + length;
  }
  run.close();
  return 0;
}
