#include "export/otlp/encoder.h"

#include <gtest/gtest.h>

#include <map>
#include <protozero/pbf_reader.hpp>

#include "export/otlp/constants.h"
#include "export/otlp/json.h"
#include "export/utf8.h"

namespace olly {
namespace {

using protozero::pbf_reader;

ResourcePtr resource(const char* service) {
  auto r = std::make_shared<Resource>();
  r->service_name = service;
  r->attributes.add("service.name", service);
  return r;
}

struct Batches {
  MetricRegistry registry;
  std::vector<std::shared_ptr<const SpanBatch>> got;
  Batcher batcher{[this](std::shared_ptr<const SpanBatch> b) { got.push_back(std::move(b)); },
                  registry.counter("dropped", "")};

  void emit(const ResourcePtr& r, std::uint8_t id, std::string_view name,
            const AttributeList& attributes) {
    Span s;
    s.trace_id.bytes[15] = 9;
    s.span_id.bytes[7] = id;
    s.kind = SpanKind::server;
    s.status = StatusCode::error;
    s.flags = 0x301;
    s.start_unix = 100;
    s.end_unix = 90;  // becomes 100
    s.name = name;
    s.trace_state = "a=b";
    s.attributes = &attributes;
    s.resource = &r;
    batcher.emit(s);
  }
};

// Attribute key -> its AnyValue's bytes.
std::map<std::string, std::string> attributes_of(pbf_reader message, std::uint32_t field) {
  std::map<std::string, std::string> all;
  while (message.next(field)) {
    pbf_reader kv = message.get_message();
    std::string key;
    std::string value;
    while (kv.next()) {
      if (kv.tag() == 1) {
        key = kv.get_string();
      } else {
        value = kv.get_bytes();
      }
    }
    EXPECT_TRUE(all.emplace(key, value).second) << "duplicate " << key;
  }
  return all;
}

TEST(ProtobufEncoder, SpansGroupedByResourceWithEveryField) {
  Batches b;
  const ResourcePtr one = resource("one");
  const ResourcePtr two = resource("two");
  AttributeList list;
  list.add("s", "text");
  list.add("bad", std::string_view("x\xff\xfey", 4));
  list.add("i", std::int64_t{-1});
  list.add("d", 0.5);
  list.add("b", true);
  b.emit(one, 1, "GET", list);
  b.emit(two, 2, "PUT", list);
  b.emit(one, 3, "GET", list);
  b.batcher.flush();
  ASSERT_EQ(b.got.size(), 1u);
  std::vector<std::uint32_t> order;
  otlp::group_by_resource(*b.got[0], order);
  ByteBuffer out;
  otlp::encode_protobuf(*b.got[0], order, out);

  pbf_reader request(out.data(), out.size());
  std::vector<std::pair<std::string, std::vector<int>>> seen;
  while (request.next(1)) {
    pbf_reader resource_spans = request.get_message();
    auto& entry = seen.emplace_back();
    while (resource_spans.next()) {
      if (resource_spans.tag() == 1) {
        entry.first = attributes_of(resource_spans.get_message(), 1).at("service.name").substr(2);
      } else if (resource_spans.tag() == 3) {
        EXPECT_EQ(resource_spans.get_string(), otlp::kSchemaUrl);
      } else {
        ASSERT_EQ(resource_spans.tag(), 2u);
        pbf_reader scope = resource_spans.get_message();
        while (scope.next()) {
          if (scope.tag() != 2) {
            scope.skip();
            continue;
          }
          const auto view = scope.get_view();
          const auto attributes = attributes_of(pbf_reader(view), 9);
          EXPECT_EQ(attributes.at("s"), "\x0a\x04text");
          EXPECT_EQ(attributes.at("bad"), "\x0a\x08x\xef\xbf\xbd\xef\xbf\xbdy");
          EXPECT_EQ(attributes.at("i"), "\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
          EXPECT_EQ(attributes.at("d"), std::string("\x21\0\0\0\0\0\0\xe0\x3f", 9));
          EXPECT_EQ(attributes.at("b"), "\x10\x01");
          pbf_reader span(view);
          std::uint64_t start = 0;
          std::uint64_t end = 0;
          while (span.next()) {
            switch (span.tag()) {
              case 1:
                EXPECT_EQ(span.get_bytes().size(), 16u);
                break;
              case 2:
                entry.second.push_back(span.get_bytes()[7]);
                break;
              case 3:
                EXPECT_EQ(span.get_string(), "a=b");
                break;
              case 5:
                EXPECT_FALSE(span.get_string().empty());
                break;
              case 6:
                EXPECT_EQ(span.get_enum(), 2);
                break;
              case 7:
                start = span.get_fixed64();
                break;
              case 8:
                end = span.get_fixed64();
                break;
              case 9:
                span.skip();
                break;
              case 15:
                EXPECT_EQ(span.get_bytes(), "\x18\x02");
                break;
              case 16:
                EXPECT_EQ(span.get_fixed32(), 0x301u);
                break;
              default:
                ADD_FAILURE() << "field " << span.tag();
            }
          }
          EXPECT_EQ(start, 100u);
          EXPECT_EQ(end, 100u);
        }
      }
    }
  }
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0].first, "one");
  EXPECT_EQ(seen[0].second, (std::vector<int>{1, 3}));
  EXPECT_EQ(seen[1].first, "two");
  EXPECT_EQ(seen[1].second, (std::vector<int>{2}));
}

TEST(ProtobufEncoder, RequestsStayBelowTheLimit) {
  Batches b;
  const ResourcePtr r = resource("one");
  AttributeList list;
  list.add("s", std::string(3000, '\xff'));  // three times as long once it is valid
  for (int i = 0; i < 100; ++i) b.emit(r, 1, "GET", list);
  b.batcher.flush();
  ASSERT_EQ(b.got.size(), 1u);
  std::vector<std::uint32_t> order;
  otlp::group_by_resource(*b.got[0], order);
  std::size_t spans = 0;
  for (std::size_t from = 0; from < order.size();) {
    const std::size_t to = otlp::request_end(*b.got[0], order, from, 50'000);
    ByteBuffer out;
    otlp::encode_protobuf(*b.got[0], std::span(order).subspan(from, to - from), out);
    EXPECT_LE(out.size(), 50'000u);
    spans += to - from;
    from = to;
  }
  EXPECT_EQ(spans, 100u);
}

TEST(ProtobufEncoder, MetricsAreCumulativeSumsAndGauges) {
  MetricRegistry registry;
  registry.counter("c", "help", {{"k", "v"}}).add(7);
  registry.gauge("g", "help", {}, "By").set(-3);
  const auto batch = collect_metrics(registry, resource("agent"), 5, 6);
  ByteBuffer out;
  otlp::encode_protobuf(*batch, out);
  pbf_reader request(out.data(), out.size());
  ASSERT_TRUE(request.next(1));
  pbf_reader resource_metrics = request.get_message();
  ASSERT_TRUE(resource_metrics.next(2));
  pbf_reader scope = resource_metrics.get_message();
  ASSERT_TRUE(scope.next(2));
  pbf_reader counter = scope.get_message();
  ASSERT_TRUE(counter.next(7));
  pbf_reader sum = counter.get_message();
  ASSERT_TRUE(sum.next(1));
  const auto view = sum.get_view();
  EXPECT_EQ(attributes_of(pbf_reader(view), 7).at("k"), "\x0a\x01v");
  pbf_reader point(view);
  ASSERT_TRUE(point.next(6));
  EXPECT_EQ(point.get_sfixed64(), 7);
  ASSERT_TRUE(sum.next(2));
  EXPECT_EQ(sum.get_enum(), 2);
  ASSERT_TRUE(sum.next(3));
  EXPECT_TRUE(sum.get_bool());
  ASSERT_TRUE(scope.next(2));
  pbf_reader gauge = scope.get_message();
  ASSERT_TRUE(gauge.next(5));
}

TEST(ProtobufEncoder, AFigureWithAFractionIsADouble) {
  MetricRegistry registry;
  registry.counter("cpu", "help", {}, "s", 1e6).set(1'500'000);
  const auto batch = collect_metrics(registry, resource("agent"), 5, 6);
  ByteBuffer out;
  otlp::encode_protobuf(*batch, out);
  pbf_reader at(out.data(), out.size());
  for (const int field : {1, 2, 2, 7, 1}) {  // resource, scope, metric, sum, point
    ASSERT_TRUE(at.next(static_cast<protozero::pbf_tag_type>(field)));
    at = at.get_message();
  }
  ASSERT_TRUE(at.next(4));
  EXPECT_EQ(at.get_double(), 1.5);
  out.clear();
  otlp::encode_json(*batch, out);
  EXPECT_NE(std::string_view(out.data(), out.size()).find("\"asDouble\":1.5,"),
            std::string_view::npos);
}

TEST(Utf8, InvalidPartsBecomeReplacementCharacters) {
  ByteBuffer scratch;
  EXPECT_EQ(to_valid_utf8("gr\xc3\xbc\xc3\x9f", scratch), "gr\xc3\xbc\xc3\x9f");
  EXPECT_EQ(to_valid_utf8("\xed\xa0\x80", scratch),
            "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");  // surrogate
  scratch.clear();
  EXPECT_EQ(to_valid_utf8("a\xf0\x9f\x98", scratch), "a\xef\xbf\xbd");  // cut short: one part
  scratch.clear();
  EXPECT_EQ(to_valid_utf8("\xc0\xaf", scratch), "\xef\xbf\xbd\xef\xbf\xbd");  // overlong
  EXPECT_FALSE(is_valid_utf8("\xf5\x80\x80\x80"));
  EXPECT_TRUE(is_plain("plain text of more than sixteen bytes"));
  EXPECT_FALSE(is_plain("plain text of more than sixteen \"bytes"));
  EXPECT_FALSE(is_plain(std::string_view("0123456789abcde\x80z", 17)));
}

}  // namespace
}  // namespace olly
