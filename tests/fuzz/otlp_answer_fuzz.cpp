// Fuzz target: what an OTLP server answers. The first two bytes choose the status, the rest is the
// body, the details and the header at once.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "export/otlp/answer.h"

namespace {

void check(const olly::otlp::Answer& answer) {
  if (answer.wait && (answer.wait->count() < 0 || *answer.wait > olly::otlp::kMaxWait))
    std::abort();
  for (const char c : answer.message) {
    if (static_cast<unsigned char>(c) < 0x20) std::abort();  // it is written to the log
  }
  if (answer.message.size() > 640) std::abort();  // 600 and a prefix
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const int code = data[0] << 8 | data[1];
  const std::string_view rest(reinterpret_cast<const char*>(data) + 2, size - 2);
  check(olly::otlp::judge_http(code % 600, rest, rest, 784111777));
  check(olly::otlp::judge_grpc(code % 20, rest, rest));
  std::string message;
  std::optional<olly::otlp::milliseconds> wait;
  olly::otlp::read_rpc_status(rest, message, wait);
  olly::otlp::decode_base64(rest);
  return 0;
}
