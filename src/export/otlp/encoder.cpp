#include "export/otlp/encoder.h"

#include <bit>
#include <numeric>

#include "export/otlp/constants.h"
#include "export/utf8.h"

namespace olly::otlp {
namespace {

constexpr std::size_t varint_size(std::uint64_t v) noexcept {
  return (static_cast<std::size_t>(std::bit_width(v | 1)) + 6) / 7;
}

// Writes without checks: the caller has reserved enough.
struct Writer {
  char* p;

  void tag(std::uint8_t t) noexcept { *p++ = static_cast<char>(t); }
  void varint(std::uint64_t v) noexcept {
    while (v >= 0x80) {
      *p++ = static_cast<char>(v | 0x80);
      v >>= 7;
    }
    *p++ = static_cast<char>(v);
  }
  void fixed64(std::uint64_t v) noexcept {  // little endian on the wire
    for (int i = 0; i < 8; ++i) *p++ = static_cast<char>(v >> (8 * i));
  }
  void fixed32(std::uint32_t v) noexcept {
    for (int i = 0; i < 4; ++i) *p++ = static_cast<char>(v >> (8 * i));
  }
  void bytes(std::uint8_t t, std::string_view text) noexcept {
    tag(t);
    varint(text.size());
    std::memcpy(p, text.data(), text.size());
    p += text.size();
  }
};

std::size_t bytes_size(std::string_view text) noexcept {
  return 1 + varint_size(text.size()) + text.size();
}

std::size_t any_value_size(const Attribute& a, std::string_view text) noexcept {
  switch (a.type) {
    case AttributeType::string:
      return bytes_size(text);
    case AttributeType::int64:
      return 1 + varint_size(static_cast<std::uint64_t>(a.int64));
    case AttributeType::float64:
      return 9;
    case AttributeType::boolean:
      return 2;
  }
  return 0;
}

// A KeyValue under `field`'s tag. `text` is valid UTF-8.
void key_value(Writer& w, std::uint8_t field, const Attribute& a, std::string_view text) noexcept {
  const std::size_t value = any_value_size(a, text);
  w.tag(field);
  w.varint(bytes_size(a.key) + 1 + varint_size(value) + value);
  w.bytes(0x0a, a.key);
  w.tag(0x12);
  w.varint(value);
  switch (a.type) {
    case AttributeType::string:
      w.bytes(0x0a, text);
      break;
    case AttributeType::int64:
      w.tag(0x18);
      w.varint(static_cast<std::uint64_t>(a.int64));
      break;
    case AttributeType::float64:
      w.tag(0x21);
      w.fixed64(std::bit_cast<std::uint64_t>(a.float64));
      break;
    case AttributeType::boolean:
      w.tag(0x10);
      w.varint(a.boolean ? 1 : 0);
      break;
  }
}

// A length that is filled in later, in four bytes: an over-long varint is legal Protobuf.
constexpr std::size_t kPadded = 4;

std::size_t open(ByteBuffer& out, std::uint8_t tag) {
  Writer w{out.reserve(1 + kPadded)};
  w.tag(tag);
  out.advance_to(w.p + kPadded);
  return out.size();
}

void close(ByteBuffer& out, std::size_t start) noexcept {
  std::size_t n = out.size() - start;
  char* p = out.data() + start - kPadded;
  for (std::size_t i = 0; i + 1 < kPadded; ++i, n >>= 7) *p++ = static_cast<char>(n | 0x80);
  *p = static_cast<char>(n & 0x7f);
}

void string_field(ByteBuffer& out, std::uint8_t tag, std::string_view text) {
  ByteBuffer scratch;
  const std::string_view valid = to_valid_utf8(text, scratch);
  Writer w{out.reserve(valid.size() + 16)};
  w.bytes(tag, valid);
  out.advance_to(w.p);
}

void attribute_field(ByteBuffer& out, std::uint8_t tag, const Attribute& a, std::string_view text) {
  ByteBuffer key_scratch;
  ByteBuffer text_scratch;
  Attribute valid = a;
  valid.key = to_valid_utf8(a.key, key_scratch);
  text = to_valid_utf8(text, text_scratch);
  Writer w{out.reserve(valid.key.size() + text.size() + 64)};
  key_value(w, tag, valid, text);
  out.advance_to(w.p);
}

void resource_message(ByteBuffer& out, const Resource& resource) {
  const std::size_t start = open(out, 0x0a);
  for (const Attribute& a : resource.attributes.items()) {
    attribute_field(out, 0x0a, a, resource.attributes.string(a));
  }
  close(out, start);
}

void scope_message(ByteBuffer& out) {
  const std::size_t start = open(out, 0x0a);
  string_field(out, 0x0a, kScopeName);
  string_field(out, 0x12, kScopeVersion);
  close(out, start);
}

void span_message(ByteBuffer& out, const SpanBatch& batch, const BatchSpan& s) {
  const std::size_t start = open(out, 0x12);
  Writer w{out.reserve(128)};
  w.bytes(0x0a, {reinterpret_cast<const char*>(s.trace_id.bytes.data()), 16});
  w.bytes(0x12, {reinterpret_cast<const char*>(s.span_id.bytes.data()), 8});
  if (s.parent_id.valid()) {
    w.bytes(0x22, {reinterpret_cast<const char*>(s.parent_id.bytes.data()), 8});
  }
  w.tag(0x30);
  w.varint(static_cast<std::uint64_t>(s.kind));
  w.tag(0x39);
  w.fixed64(s.start_unix);
  w.tag(0x41);
  w.fixed64(s.end_unix);
  if (s.flags != 0) {
    w.tag(0x85);
    w.tag(0x01);
    w.fixed32(s.flags);
  }
  out.advance_to(w.p);
  if (s.trace_state.size != 0) string_field(out, 0x1a, batch.text(s.trace_state));
  string_field(out, 0x2a, batch.text(s.name));
  // Nearly every span is ASCII as a whole: one check in place of one per string.
  if (is_ascii(batch.all_text(s))) {
    for (const Attribute& a : batch.attributes(s)) {
      const std::string_view text = batch.string(s, a);
      Writer kv{out.reserve(a.key.size() + text.size() + 64)};
      key_value(kv, 0x4a, a, text);
      out.advance_to(kv.p);
    }
  } else {
    for (const Attribute& a : batch.attributes(s)) {
      attribute_field(out, 0x4a, a, batch.string(s, a));
    }
  }
  if (s.status != StatusCode::unset) {
    const std::size_t status = open(out, 0x7a);
    if (s.status_message.size != 0) string_field(out, 0x12, batch.text(s.status_message));
    Writer code{out.reserve(2)};
    code.tag(0x18);
    code.varint(static_cast<std::uint64_t>(s.status));
    out.advance_to(code.p);
    close(out, status);
  }
  close(out, start);
}

void point_message(ByteBuffer& out, const MetricBatch& batch, const MetricBatch::Point& p) {
  const std::size_t start = open(out, 0x0a);
  Writer w{out.reserve(32)};
  w.tag(0x11);
  w.fixed64(batch.start_unix);
  w.tag(0x19);
  w.fixed64(batch.time_unix);
  w.tag(p.whole ? 0x31 : 0x21);  // as_int, as_double
  w.fixed64(p.whole ? static_cast<std::uint64_t>(static_cast<std::int64_t>(p.value))
                    : std::bit_cast<std::uint64_t>(p.value));
  out.advance_to(w.p);
  for (const auto& [key, value] : p.labels) {
    Attribute a;
    a.key = key;
    attribute_field(out, 0x3a, a, value);
  }
  close(out, start);
}

}  // namespace

void group_by_resource(const SpanBatch& batch, std::vector<std::uint32_t>& order) {
  const auto spans = batch.spans();
  order.resize(spans.size());
  if (batch.resources().size() <= 1) {
    std::iota(order.begin(), order.end(), 0u);
    return;
  }
  std::vector<std::uint32_t> next(batch.resources().size() + 1, 0);
  for (const BatchSpan& s : spans) ++next[s.resource + 1];
  std::partial_sum(next.begin(), next.end(), next.begin());
  for (std::uint32_t i = 0; i < spans.size(); ++i) order[next[spans[i].resource]++] = i;
}

std::size_t request_end(const SpanBatch& batch, std::span<const std::uint32_t> order,
                        std::size_t from, std::size_t max_bytes) noexcept {
  std::size_t bytes = 0;
  std::uint32_t resource = UINT32_MAX;
  for (std::size_t i = from; i < order.size(); ++i) {
    const BatchSpan& s = batch.spans()[order[i]];
    // 3: an invalid byte becomes the three of U+FFFD.
    bytes += 160 + 3 * batch.all_text(s).size();
    for (const Attribute& a : batch.attributes(s)) bytes += 40 + a.key.size();
    if (s.resource != resource) {
      resource = s.resource;
      const AttributeList& list = batch.resources()[resource]->attributes;
      bytes += 256 + 3 * list.all_text().size();
      for (const Attribute& a : list.items()) bytes += 40 + 3 * a.key.size();
    }
    if (bytes > max_bytes && i != from) return i;
  }
  return order.size();
}

void encode_protobuf(const SpanBatch& batch, std::span<const std::uint32_t> spans,
                     ByteBuffer& out) {
  for (std::size_t i = 0; i < spans.size();) {
    const std::uint32_t resource = batch.spans()[spans[i]].resource;
    const std::size_t resource_spans = open(out, 0x0a);
    resource_message(out, *batch.resources()[resource]);
    const std::size_t scope_spans = open(out, 0x12);
    scope_message(out);
    for (; i < spans.size() && batch.spans()[spans[i]].resource == resource; ++i) {
      span_message(out, batch, batch.spans()[spans[i]]);
    }
    string_field(out, 0x1a, kSchemaUrl);
    close(out, scope_spans);
    string_field(out, 0x1a, kSchemaUrl);
    close(out, resource_spans);
  }
}

void encode_protobuf(const MetricBatch& batch, ByteBuffer& out) {
  const std::size_t resource_metrics = open(out, 0x0a);
  resource_message(out, *batch.resource);
  const std::size_t scope_metrics = open(out, 0x12);
  scope_message(out);
  for (const MetricBatch::Metric& m : batch.metrics) {
    const std::size_t metric = open(out, 0x12);
    string_field(out, 0x0a, m.name);
    if (!m.description.empty()) string_field(out, 0x12, m.description);
    if (!m.unit.empty()) string_field(out, 0x1a, m.unit);
    const std::size_t data = open(out, m.is_sum ? 0x3a : 0x2a);
    for (std::uint32_t i = 0; i < m.point_count; ++i) {
      point_message(out, batch, batch.points[m.first_point + i]);
    }
    if (m.is_sum) out.append(std::string_view("\x10\x02\x18\x01", 4));  // cumulative, monotonic
    close(out, data);
    close(out, metric);
  }
  string_field(out, 0x1a, kSchemaUrl);
  close(out, scope_metrics);
  string_field(out, 0x1a, kSchemaUrl);
  close(out, resource_metrics);
}

}  // namespace olly::otlp
