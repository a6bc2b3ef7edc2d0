// OTLP/JSON (opentelemetry-proto's JSON mapping): lowerCamelCase, ids as hex, 64-bit integers as
// strings, enums as integers. Every string is valid UTF-8.
#pragma once

#include "export/batch.h"
#include "export/buffer.h"

namespace olly::otlp {

// One ExportTraceServiceRequest, one line, without the newline. Spans are grouped by resource.
void encode_json(const SpanBatch& batch, ByteBuffer& out);
// One ExportMetricsServiceRequest.
void encode_json(const MetricBatch& batch, ByteBuffer& out);

}  // namespace olly::otlp
