#include "protocol/http2/protocol.h"

#include "protocol/common/http.h"
#include "protocol/http2/connection.h"
#include "protocol/http2/detect.h"

namespace olly::http2 {
namespace {

class Http2 final : public Protocol {
 public:
  explicit Http2(Switches on) noexcept { shared_.on = on; }

  Verdict detect(Direction, ByteView bytes) const noexcept override {
    return looks_like_http2(bytes);
  }
  // Frames begin anywhere in a call, and each counts: a lost one may have changed HPACK's table.
  std::uint32_t bytes_per_call() const noexcept override { return ~std::uint32_t{0}; }
  std::unique_ptr<ProtocolParser> open(Connection& connection, ExchangeSink& sink,
                                       std::array<bool, 2> from_start,
                                       bool lost) noexcept override {
    return std::make_unique<Http2Connection>(connection, sink, shared_, from_start, lost);
  }
  std::unique_ptr<ProtocolParser> resume(Connection& connection, ExchangeSink& sink,
                                         std::uint32_t rested) noexcept override {
    return std::make_unique<Http2Connection>(connection, sink, shared_,
                                             shared_.rested.take(rested));
  }
  void forget(std::uint32_t rested) noexcept override { shared_.rested.take(rested); }
  std::size_t rested_bytes() const noexcept override { return shared_.rested.bytes(); }
  bool continues(std::string_view token) const noexcept override { return iequals(token, "h2c"); }
  std::unique_ptr<ProtocolParser> take_over(Connection& connection, ExchangeSink& sink,
                                            const Upgrade& upgrade) noexcept override {
    return std::make_unique<Http2Connection>(connection, sink, shared_, upgrade);
  }

 private:
  Shared shared_;
};

}  // namespace

std::unique_ptr<Protocol> make_protocol(std::span<const bool> enabled) {
  return std::make_unique<Http2>(Switches{enabled[0], enabled[1]});
}

}  // namespace olly::http2
