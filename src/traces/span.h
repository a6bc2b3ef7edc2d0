// The OTLP-shaped span, finished: what the traces room hands to export.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/time.h"
#include "traces/attributes.h"

namespace olly {

struct TraceId {
  std::array<std::uint8_t, 16> bytes{};
  bool operator==(const TraceId&) const = default;
  bool valid() const noexcept { return *this != TraceId{}; }
};

struct SpanId {
  std::array<std::uint8_t, 8> bytes{};
  bool operator==(const SpanId&) const = default;
  bool valid() const noexcept { return *this != SpanId{}; }
};

std::string to_hex(const TraceId& id);
std::string to_hex(const SpanId& id);

enum class SpanKind : std::uint8_t {
  internal = 1,
  server = 2,
  client = 3,
  producer = 4,
  consumer = 5
};
enum class StatusCode : std::uint8_t { unset = 0, ok = 1, error = 2 };

// One observed process (or the agent itself, for its own telemetry). Immutable once shared.
struct Resource {
  AttributeList attributes;  // service.name first
  std::string service_name;
  std::uint32_t pid = 0;
};
using ResourcePtr = std::shared_ptr<const Resource>;

// A view of one finished span; everything it points to is valid during SpanSink::emit.
struct Span {
  TraceId trace_id;
  SpanId span_id;
  SpanId parent_id;  // invalid = root
  SpanKind kind = SpanKind::internal;
  StatusCode status = StatusCode::unset;
  std::uint32_t flags = 0;  // W3C flags in the low 8 bits, OTLP's remote bits above
  Nanos start_unix = 0;
  Nanos end_unix = 0;
  std::string_view name;
  std::string_view status_message;
  std::string_view trace_state;
  const AttributeList* attributes = nullptr;
  const ResourcePtr* resource = nullptr;
};

class SpanSink {
 public:
  virtual ~SpanSink() = default;
  // Called from the pipeline thread. Copies what it keeps; when it cannot, it counts the drop.
  virtual void emit(const Span& span) noexcept = 0;
};

}  // namespace olly
