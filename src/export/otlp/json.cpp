#include "export/otlp/json.h"

#include <fmt/compile.h>

#include <cmath>

#include "export/otlp/encoder.h"
#include "export/utf8.h"
#include "traces/semconv.h"

namespace olly::otlp {
namespace {

template <class Format, class... Args>
void put(ByteBuffer& out, std::size_t room, const Format& format, Args... args) {
  out.advance_to(fmt::format_to(out.reserve(room), format, args...));
}

void put_escaped(ByteBuffer& out, std::string_view text) {
  for (char c : text) {
    switch (c) {
      case '"':
        out.append("\\\"");
        break;
      case '\\':
        out.append("\\\\");
        break;
      case '\n':
        out.append("\\n");
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          put(out, 8, FMT_COMPILE("\\u{:04x}"), static_cast<unsigned>(c));
        } else {
          out.append(c);
        }
    }
  }
}

void put_string(ByteBuffer& out, std::string_view text) {
  out.append('"');
  if (is_plain(text)) {
    out.append(text);
  } else {
    ByteBuffer scratch;
    put_escaped(out, to_valid_utf8(text, scratch));
  }
  out.append('"');
}

void put_hex(ByteBuffer& out, std::span<const std::uint8_t> bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  char* to = out.reserve(bytes.size() * 2);
  for (std::uint8_t b : bytes) {
    *to++ = kDigits[b >> 4];
    *to++ = kDigits[b & 15];
  }
  out.advance_to(to);
}

void put_value(ByteBuffer& out, const Attribute& a, std::string_view text) {
  switch (a.type) {
    case AttributeType::string:
      out.append("{\"stringValue\":");
      put_string(out, text);
      break;
    case AttributeType::int64:
      put(out, 48, FMT_COMPILE("{{\"intValue\":\"{}\""), a.int64);
      break;
    case AttributeType::float64:
      if (std::isfinite(a.float64)) {
        put(out, 64, FMT_COMPILE("{{\"doubleValue\":{}"), a.float64);
      } else {
        out.append(std::isnan(a.float64) ? "{\"doubleValue\":\"NaN\""
                   : a.float64 > 0       ? "{\"doubleValue\":\"Infinity\""
                                         : "{\"doubleValue\":\"-Infinity\"");
      }
      break;
    case AttributeType::boolean:
      out.append(a.boolean ? "{\"boolValue\":true" : "{\"boolValue\":false");
      break;
  }
  out.append('}');
}

void put_attribute(ByteBuffer& out, const Attribute& a, std::string_view text, bool first) {
  out.append(first ? "{\"key\":" : ",{\"key\":");
  put_string(out, a.key);
  out.append(",\"value\":");
  put_value(out, a, text);
  out.append('}');
}

void put_resource(ByteBuffer& out, const Resource& resource) {
  out.append("\"resource\":{\"attributes\":[");
  bool first = true;
  for (const Attribute& a : resource.attributes.items()) {
    put_attribute(out, a, resource.attributes.string(a), first);
    first = false;
  }
  out.append("]}");
}

void put_scope(ByteBuffer& out) {
  out.append("\"scope\":{\"name\":\"olly\",\"version\":\"" OLLY_VERSION "\"}");
}

void put_span(ByteBuffer& out, const SpanBatch& batch, const BatchSpan& s) {
  out.append("{\"traceId\":\"");
  put_hex(out, s.trace_id.bytes);
  out.append("\",\"spanId\":\"");
  put_hex(out, s.span_id.bytes);
  if (s.parent_id.valid()) {
    out.append("\",\"parentSpanId\":\"");
    put_hex(out, s.parent_id.bytes);
  }
  out.append("\",\"name\":");
  put_string(out, batch.text(s.name));
  put(out, 160,
      FMT_COMPILE(
          ",\"kind\":{},\"startTimeUnixNano\":\"{}\",\"endTimeUnixNano\":\"{}\",\"flags\":{}"),
      static_cast<int>(s.kind), s.start_unix, s.end_unix, s.flags);
  if (s.trace_state.size != 0) {
    out.append(",\"traceState\":");
    put_string(out, batch.text(s.trace_state));
  }
  out.append(",\"attributes\":[");
  bool first = true;
  for (const Attribute& a : batch.attributes(s)) {
    put_attribute(out, a, batch.string(s, a), first);
    first = false;
  }
  out.append("],\"status\":{");
  if (s.status != StatusCode::unset) {
    put(out, 24, FMT_COMPILE("\"code\":{}"), static_cast<int>(s.status));
    if (s.status_message.size != 0) {
      out.append(",\"message\":");
      put_string(out, batch.text(s.status_message));
    }
  }
  out.append("}}");
}

}  // namespace

void encode_json(const SpanBatch& batch, std::span<const std::uint32_t> spans, ByteBuffer& out) {
  out.append("{\"resourceSpans\":[");
  for (std::size_t i = 0; i < spans.size();) {
    const std::uint32_t resource = batch.spans()[spans[i]].resource;
    out.append(i == 0 ? "{" : ",{");
    put_resource(out, *batch.resources()[resource]);
    out.append(",\"scopeSpans\":[{");
    put_scope(out);
    out.append(",\"spans\":[");
    for (bool first = true; i < spans.size() && batch.spans()[spans[i]].resource == resource; ++i) {
      if (!first) out.append(',');
      first = false;
      put_span(out, batch, batch.spans()[spans[i]]);
    }
    out.append("],\"schemaUrl\":\"https://opentelemetry.io/schemas/1.44.0\"}]}");
  }
  out.append("]}");
}

void encode_json(const SpanBatch& batch, ByteBuffer& out) {
  std::vector<std::uint32_t> order;
  group_by_resource(batch, order);
  encode_json(batch, order, out);
}

void encode_json(const MetricBatch& batch, ByteBuffer& out) {
  out.append("{\"resourceMetrics\":[{");
  put_resource(out, *batch.resource);
  out.append(",\"scopeMetrics\":[{");
  put_scope(out);
  out.append(",\"metrics\":[");
  bool first_metric = true;
  for (const MetricBatch::Metric& m : batch.metrics) {
    out.append(first_metric ? "{\"name\":" : ",{\"name\":");
    first_metric = false;
    put_string(out, m.name);
    out.append(",\"description\":");
    put_string(out, m.description);
    out.append(",\"unit\":");
    put_string(out, m.unit);
    out.append(m.is_sum
                   ? ",\"sum\":{\"aggregationTemporality\":2,\"isMonotonic\":true,\"dataPoints\":["
                   : ",\"gauge\":{\"dataPoints\":[");
    for (std::uint32_t i = m.first_point; i < m.first_point + m.point_count; ++i) {
      const MetricBatch::Point& p = batch.points[i];
      put(out, 160, FMT_COMPILE("{}{{\"startTimeUnixNano\":\"{}\",\"timeUnixNano\":\"{}\","),
          i == m.first_point ? "" : ",", batch.start_unix, batch.time_unix);
      if (p.whole)
        put(out, 48, FMT_COMPILE("\"asInt\":\"{}\""), static_cast<std::int64_t>(p.value));
      else
        put(out, 48, FMT_COMPILE("\"asDouble\":{}"), p.value);
      out.append(",\"attributes\":[");
      bool first = true;
      for (const auto& [key, value] : p.labels) {
        out.append(first ? "{\"key\":" : ",{\"key\":");
        first = false;
        put_string(out, key);
        out.append(",\"value\":{\"stringValue\":");
        put_string(out, value);
        out.append("}}");
      }
      out.append("]}");
    }
    out.append("]}}");
  }
  out.append("]}]}]}");
}

}  // namespace olly::otlp
