#include "protocol/http1/protocol.h"

#include "protocol/http1/connection.h"

namespace olly::http1 {
namespace {

constexpr std::size_t kMaxMethod = 32;

class Http1 final : public Protocol {
 public:
  Verdict detect(Direction, ByteView bytes) const noexcept override {
    if (bytes.empty()) return Verdict::need_more;
    const Start request = looks_like_request(bytes);
    const Start response = looks_like_response(bytes);
    if (request == Start::yes || response == Start::yes) return Verdict::yes;
    if (request == Start::no && response == Start::no) return Verdict::no;
    // No method is that long.
    if (bytes.size() > kMaxMethod && as_text(bytes).find(' ') > kMaxMethod) return Verdict::no;
    return Verdict::need_more;
  }
  std::unique_ptr<ProtocolParser> open(Connection& connection, ExchangeSink& sink,
                                       std::array<bool, 2> from_start,
                                       bool lost) noexcept override {
    return std::make_unique<HttpConnection>(connection, sink, pool_, from_start, lost);
  }
  std::unique_ptr<ProtocolParser> resume(Connection& connection, ExchangeSink& sink,
                                         std::uint32_t rested) noexcept override {
    auto parser = std::make_unique<HttpConnection>(connection, sink, pool_, kFromStart, false);
    parser->resume(rested);
    return parser;
  }

 private:
  static constexpr std::array<bool, 2> kFromStart{true, true};
  Queues pool_;
};

}  // namespace

std::unique_ptr<Protocol> make_protocol() { return std::make_unique<Http1>(); }

}  // namespace olly::http1
