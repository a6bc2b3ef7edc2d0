// Header injection: the ids of a CLIENT span went out in its own request.
#include "traces/test_world.h"

namespace olly {
namespace {

TraceParent header_of(std::uint8_t trace, std::uint8_t span) {
  TraceParent header{true, {}, {}, 1};
  header.trace_id.bytes[0] = trace;
  header.parent_id.bytes[0] = span;
  return header;
}
InjectEvent announced(const TraceParent& header, std::uint32_t pid, double ms) {
  return {static_cast<Nanos>(ms * 1e6), pid, header.trace_id.bytes, header.parent_id.bytes};
}

struct Injection : World {
  // A request with `received`, for which another is sent with the ids of `header`.
  void call_within(const TraceParent& received, const TraceParent& header) {
    auto p = process(1);
    auto& in = connection(1, Role::inbound, p);
    auto& to = connection(2, Role::outbound, p);
    Exchange* s = start(in, "s", mark(10, 7), received);
    processor.injected(announced(header, 1, 10.5));
    Exchange* c = start(to, "c", mark(11, 7), header);
    end(to, c, mark(12, 7));
    end(in, s, mark(13, 7));
  }
};

TEST_F(Injection, InjectedIdsAreTheSpans) {
  auto& to = connection(2, Role::outbound, process(1));
  const TraceParent header = header_of(0xaa, 0xbb);
  processor.injected(announced(header, 1, 10));
  Exchange* c = start(to, "c", mark(11, 7), header);
  end(to, c, mark(12, 7));
  ASSERT_EQ(out.spans.size(), 1u);
  EXPECT_EQ(out.spans[0].trace, header.trace_id);
  EXPECT_EQ(out.spans[0].id, header.parent_id);
  EXPECT_FALSE(out.spans[0].parent.valid());
  EXPECT_EQ(out.spans[0].method, "");
  // The same header once more is somebody else's: the program has copied it.
  Exchange* copy = start(to, "copy", mark(13, 7), header, 100);
  end(to, copy, mark(14, 7));
  EXPECT_EQ(out.find("copy")->parent, header.parent_id);
  EXPECT_EQ(out.find("copy")->method, "traceparent");
}

TEST_F(Injection, NobodyAnnouncesForAnotherProcess) {
  auto& to = connection(2, Role::outbound, process(1));
  const TraceParent header = header_of(0xaa, 0xbb);
  processor.injected(announced(header, 99, 10));
  Exchange* c = start(to, "c", mark(11, 7), header);
  end(to, c, mark(12, 7));
  EXPECT_NE(out.spans[0].id, header.parent_id);
  EXPECT_EQ(out.spans[0].parent, header.parent_id);
}

// A request without a trace takes the one that its calls have been given.
TEST_F(Injection, ServerTakesTheTraceOfItsInjectedCall) {
  const TraceParent header = header_of(0xaa, 0xbb);
  call_within({}, header);
  ASSERT_EQ(out.spans.size(), 2u);
  EXPECT_EQ(out.find("s")->trace, header.trace_id);
  EXPECT_EQ(out.find("c")->trace, header.trace_id);
  EXPECT_EQ(out.find("c")->parent, out.find("s")->id);
  EXPECT_EQ(out.find("c")->id, header.parent_id);
  EXPECT_EQ(out.find("c")->method, "thread");
  EXPECT_EQ(out.find("c")->flags, 0x101u);
  EXPECT_EQ(processor.live(), 0u);
}

// Same trace as received: linked inside the process as ever.
TEST_F(Injection, InjectedCallOfARequestWithATrace) {
  const TraceParent received = header_of(0xaa, 0x01);
  call_within(received, header_of(0xaa, 0xbb));
  EXPECT_EQ(out.find("s")->parent, received.parent_id);
  EXPECT_EQ(out.find("c")->parent, out.find("s")->id);
  EXPECT_EQ(out.find("c")->trace, received.trace_id);
}

// What went out stays true; a parent in another trace is none.
TEST_F(Injection, InjectedTraceThatIsNotTheOwners) {
  const TraceParent received = header_of(0xcc, 0x01);
  const TraceParent header = header_of(0xaa, 0xbb);
  call_within(received, header);
  EXPECT_EQ(out.find("s")->trace, received.trace_id);
  EXPECT_EQ(out.find("c")->trace, header.trace_id);
  EXPECT_EQ(out.find("c")->id, header.parent_id);
  EXPECT_FALSE(out.find("c")->parent.valid());
  EXPECT_EQ(unlinked("svc1", "injected"), 1u);
}

// The other end, seen by the same agent: connection and header say the same.
TEST_F(Injection, InjectedCallAndItsServer) {
  auto& to = connection(2, Role::outbound, process(1), {11, 22});
  auto& in = connection(3, Role::inbound, process(2), {22, 11});
  const TraceParent header = header_of(0xaa, 0xbb);
  processor.injected(announced(header, 1, 10));
  Exchange* c = start(to, "c", mark(11, 7), header);
  Exchange* s = start(in, "s", mark(11.5, 8), header);
  end(in, s, mark(12, 8));
  end(to, c, mark(13, 7));
  EXPECT_EQ(out.find("s")->parent, header.parent_id);
  EXPECT_EQ(out.find("s")->trace, header.trace_id);
  EXPECT_EQ(out.find("s")->method, "connection");
  EXPECT_EQ(out.find("c")->id, header.parent_id);
}

}  // namespace
}  // namespace olly
