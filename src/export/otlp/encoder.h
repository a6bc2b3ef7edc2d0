// OTLP/Protobuf, written by hand from the field tables of opentelemetry-proto v1.11.0: lengths are
// known before they are written, so nothing is moved and no tree of messages is built.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "export/batch.h"
#include "export/buffer.h"
#include "export/otlp/constants.h"

namespace olly::otlp {

// Appends one ExportTraceServiceRequest of batch.spans()[spans...]; the indices of one resource
// must stand together (group_by_resource). Every string is valid UTF-8.
void encode_protobuf(const SpanBatch& batch, std::span<const std::uint32_t> spans, ByteBuffer& out);
// Appends one ExportMetricsServiceRequest.
void encode_protobuf(const MetricBatch& batch, ByteBuffer& out);

// All span indices of the batch, those of one resource together, else in their order.
void group_by_resource(const SpanBatch& batch, std::vector<std::uint32_t>& order);

// Where a request that starts at order[from] has to end to stay below max_bytes. At least from + 1.
std::size_t request_end(const SpanBatch& batch, std::span<const std::uint32_t> order,
                        std::size_t from, std::size_t max_bytes) noexcept;

// Calls send(indices) for each request the batch makes, every one below kMaxRequestBytes unless one
// span is not. `order` is scratch space that outlives the calls.
template <typename Send>
void for_each_request(const SpanBatch& batch, std::vector<std::uint32_t>& order, Send&& send) {
  group_by_resource(batch, order);
  for (std::size_t from = 0; from < order.size();) {
    const std::size_t to = request_end(batch, order, from, kMaxRequestBytes);
    send(std::span<const std::uint32_t>(order).subspan(from, to - from));
    from = to;
  }
}

}  // namespace olly::otlp
