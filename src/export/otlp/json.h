// OTLP/JSON (opentelemetry-proto's JSON mapping): lowerCamelCase, ids as hex, 64-bit integers as
// strings, enums as integers. Every string is valid UTF-8.
#pragma once

#include <cstdint>
#include <span>

#include "export/batch.h"
#include "export/buffer.h"

namespace olly::otlp {

// One ExportTraceServiceRequest of batch.spans()[spans...], one line, without the newline. The
// indices of one resource must stand together (group_by_resource).
void encode_json(const SpanBatch& batch, std::span<const std::uint32_t> spans, ByteBuffer& out);
// Of the whole batch.
void encode_json(const SpanBatch& batch, ByteBuffer& out);
// One ExportMetricsServiceRequest.
void encode_json(const MetricBatch& batch, ByteBuffer& out);

}  // namespace olly::otlp
