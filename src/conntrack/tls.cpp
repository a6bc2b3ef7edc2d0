#include "conntrack/tls.h"

#include <algorithm>

namespace olly {
namespace {

constexpr std::size_t kRecordHead = 5;
// A hello in several records, or with a long list of key shares: no more than this is kept of it.
constexpr std::size_t kMaxHello = 16 * 1024;
constexpr std::uint8_t kHandshake = 22;
constexpr std::uint8_t kClientHello = 1;
constexpr std::uint8_t kServerHello = 2;
constexpr unsigned kServerName = 0;  // extensions
constexpr unsigned kAlpn = 16;
constexpr unsigned kSupportedVersions = 43;

// Reads big endian numbers and stays within the bytes; past their end everything is 0 and empty.
class Cursor {
 public:
  explicit Cursor(ByteView bytes) noexcept : bytes_(bytes) {}
  bool empty() const noexcept { return bytes_.empty(); }
  unsigned number(std::size_t width) noexcept {
    unsigned value = 0;
    for (const std::uint8_t b : take(width)) value = value << 8 | b;
    return value;
  }
  ByteView take(std::size_t n) noexcept {
    if (n > bytes_.size()) {
      bytes_ = {};
      return {};
    }
    const ByteView part = bytes_.first(n);
    bytes_ = bytes_.subspan(n);
    return part;
  }
  // A vector of TLS: its length in `width` bytes, then so much.
  Cursor vector(std::size_t width) noexcept { return Cursor(take(number(width))); }
  ByteView rest() const noexcept { return bytes_; }

 private:
  ByteView bytes_;
};

std::string text_of(ByteView bytes) { return {bytes.begin(), bytes.end()}; }

void read_server_name(Cursor extension, TlsInfo& info) {
  Cursor names = extension.vector(2);
  while (!names.empty()) {
    const unsigned type = names.number(1);
    const Cursor name = names.vector(2);
    if (type == 0 && name.rest().size() <= 255) info.server_name = text_of(name.rest());
  }
}

void read_client_hello(Cursor c, TlsInfo& info) {
  c.take(2 + 32);
  c.vector(1);  // session id
  c.vector(2);  // cipher suites
  c.vector(1);  // compression
  Cursor extensions = c.vector(2);
  while (!extensions.empty()) {
    const unsigned type = extensions.number(2);
    const Cursor extension = extensions.vector(2);
    if (type == kServerName) read_server_name(extension, info);
  }
}

void read_server_hello(Cursor c, TlsInfo& info) {
  unsigned version = c.number(2);
  c.take(32);
  c.vector(1);
  const unsigned cipher = c.number(2);
  c.take(1);
  Cursor extensions = c.vector(2);
  while (!extensions.empty()) {
    const unsigned type = extensions.number(2);
    Cursor extension = extensions.vector(2);
    if (type == kSupportedVersions) {
      version = extension.number(2);
    } else if (type == kAlpn) {
      Cursor names = extension.vector(2);
      const Cursor name = names.vector(1);
      if (name.rest().size() <= 64) info.alpn = text_of(name.rest());
    }
  }
  if (info.version == 0) info.version = static_cast<std::uint16_t>(version);
  if (info.cipher == 0) info.cipher = static_cast<std::uint16_t>(cipher);
}

// The handshake bytes of the records at the front. False: something else came.
bool unwrap(ByteView bytes, std::vector<std::uint8_t>& out) {
  while (bytes.size() >= kRecordHead) {
    if (bytes[0] != kHandshake) return !out.empty();
    const std::size_t length = std::size_t{bytes[3]} << 8 | bytes[4];
    const ByteView body = bytes.subspan(kRecordHead, std::min(length, bytes.size() - kRecordHead));
    out.insert(out.end(), body.begin(), body.end());
    bytes = bytes.subspan(kRecordHead + body.size());
    if (body.size() < length) break;
  }
  return true;
}

}  // namespace

bool looks_like_tls(ByteView bytes) noexcept {
  if (bytes.size() < kRecordHead + 1 || bytes[0] != kHandshake || bytes[1] != 3 || bytes[2] > 4) {
    return false;
  }
  const std::size_t length = std::size_t{bytes[3]} << 8 | bytes[4];
  return length >= 4 && length <= (1u << 14) + 2048 &&
         (bytes[5] == kClientHello || bytes[5] == kServerHello);
}

void HelloReader::feed(std::size_t direction, ByteView bytes, TlsInfo& info) {
  if (done_[direction]) return;
  std::vector<std::uint8_t>& all = bytes_[direction];
  if (all.size() + bytes.size() > kMaxHello) bytes = bytes.first(kMaxHello - all.size());
  all.insert(all.end(), bytes.begin(), bytes.end());
  if (all.size() < kRecordHead) return;
  std::vector<std::uint8_t> handshake;
  if (!unwrap(all, handshake)) {
    give_up();  // met in its middle: the other direction will not tell, either
    return;
  }
  Cursor c(handshake);
  const unsigned type = c.number(1);
  const unsigned length = c.number(3);
  if (handshake.size() >= 4 && c.rest().size() >= length) {
    const Cursor message(c.take(length));
    if (type == kClientHello) read_client_hello(message, info);
    if (type == kServerHello) read_server_hello(message, info);
    finish(direction);
  } else if (all.size() >= kMaxHello) {
    finish(direction);
  }
}

void HelloReader::give_up() noexcept {
  finish(0);
  finish(1);
}

void HelloReader::finish(std::size_t direction) noexcept {
  done_[direction] = true;
  bytes_[direction] = {};
}

}  // namespace olly
