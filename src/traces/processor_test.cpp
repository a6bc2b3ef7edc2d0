#include "traces/test_world.h"

namespace olly {
namespace {

TEST_F(World, ThreadReadsCallsAndWrites) {
  auto p = process(1);
  auto& in = connection(1, Role::inbound, p);
  auto& to = connection(2, Role::outbound, p);
  Exchange* s = start(in, "s", mark(10, 7));
  Exchange* c = start(to, "c", mark(11, 7));
  end(to, c, mark(12, 7));
  EXPECT_TRUE(out.spans.empty()) << "decided only when the response is written";
  end(in, s, mark(13, 7));
  ASSERT_EQ(out.spans.size(), 2u);
  EXPECT_EQ(out.find("c")->parent, out.find("s")->id);
  EXPECT_EQ(out.find("c")->trace, out.find("s")->trace);
  EXPECT_EQ(out.find("c")->method, "thread");
  EXPECT_EQ(out.find("c")->flags, 0x101u);
  EXPECT_FALSE(out.find("s")->parent.valid());
  EXPECT_EQ(processor.live(), 0u);
}

TEST_F(World, NonblockingReaderMayBeALoop) {
  auto p = process(1);
  auto& in = connection(1, Role::inbound, p);
  auto& to = connection(2, Role::outbound, p);
  Exchange* s = start(in, "s", mark(10, 7, true));
  Exchange* c = start(to, "c", mark(11, 7));
  end(to, c, mark(12, 7, true));
  end(in, s, mark(13, 7));
  EXPECT_FALSE(out.find("c")->parent.valid());
  EXPECT_EQ(unlinked("svc1", "nonblocking"), 1u);
}

TEST_F(World, TwoOpenRequestsOnOneThreadAreALoop) {
  auto p = process(1);
  auto& a = connection(1, Role::inbound, p);
  auto& b = connection(2, Role::inbound, p);
  auto& to = connection(3, Role::outbound, p);
  Exchange* s1 = start(a, "s1", mark(10, 7));
  Exchange* c1 = start(to, "c1", mark(11, 7));
  end(to, c1, mark(12, 7));
  Exchange* s2 = start(b, "s2", mark(12.5, 7));  // known only after the call has ended
  end(a, s1, mark(13, 7));
  end(b, s2, mark(14, 7));
  EXPECT_FALSE(out.find("c1")->parent.valid());
  EXPECT_EQ(unlinked("svc1", "event_loop"), 1u);
}

TEST_F(World, HalfARequestFromElsewhereShowsTheLoopToo) {
  auto p = process(1);
  auto& a = connection(1, Role::inbound, p);
  auto& b = connection(2, Role::inbound, p);
  auto& to = connection(3, Role::outbound, p);
  Exchange* s1 = start(a, "s1", mark(10, 7));
  event(b, Direction::recv, mark(10.5, 7), nullptr);
  Exchange* c1 = start(to, "c1", mark(11, 7));
  end(to, c1, mark(12, 7));
  end(a, s1, mark(13, 7));
  EXPECT_FALSE(out.find("c1")->parent.valid());
}

TEST_F(World, WorkerWritesTheResponse) {
  auto p = process(1);
  auto& a = connection(1, Role::inbound, p);
  auto& b = connection(2, Role::inbound, p);
  auto& to = connection(3, Role::outbound, p);
  Exchange* s1 = start(a, "s1", mark(10, 7, true));
  Exchange* s2 = start(b, "s2", mark(10.1, 7, true));
  Exchange* c1 = start(to, "c1", mark(11, 8));
  end(to, c1, mark(12, 8));
  end(a, s1, mark(13, 8));
  Exchange* c2 = start(to, "c2", mark(14, 8), {}, 100);
  end(to, c2, mark(15, 8));
  end(b, s2, mark(16, 8));
  EXPECT_EQ(out.find("c1")->parent, out.find("s1")->id);
  EXPECT_EQ(out.find("c2")->parent, out.find("s2")->id);
  EXPECT_EQ(links("thread"), 2u);
}

TEST_F(World, WorkerThatAlsoReadsRequestsIsRefused) {
  auto p = process(1);
  auto& a = connection(1, Role::inbound, p);
  auto& b = connection(2, Role::inbound, p);
  auto& to = connection(3, Role::outbound, p);
  Exchange* s1 = start(a, "s1", mark(10, 7, true));
  Exchange* s2 = start(b, "s2", mark(10.5, 8, true));
  Exchange* c2 = start(to, "c2", mark(11, 8));
  end(to, c2, mark(12, 8));
  end(a, s1, mark(13, 8));  // a task that moved from thread 7 to thread 8
  end(b, s2, mark(14, 8));
  EXPECT_FALSE(out.find("c2")->parent.valid());
  EXPECT_EQ(links("thread"), 0u);
}

TEST_F(World, OverlappingCallsOfAWriterAreRefused) {
  auto p = process(1);
  auto& a = connection(1, Role::inbound, p);
  auto& t1 = connection(3, Role::outbound, p);
  auto& t2 = connection(4, Role::outbound, p);
  Exchange* s1 = start(a, "s1", mark(10, 7));
  Exchange* c1 = start(t1, "c1", mark(11, 8));
  Exchange* c2 = start(t2, "c2", mark(11.5, 8));
  end(t1, c1, mark(12, 8));
  end(t2, c2, mark(12.5, 8));
  end(a, s1, mark(13, 8));
  EXPECT_EQ(links("thread"), 0u);
  EXPECT_EQ(unlinked("svc1", "ambiguous"), 2u);
}

TEST_F(World, CallThatOutlivesItsResponse) {
  auto p = process(1);
  auto& in = connection(1, Role::inbound, p);
  auto& to = connection(2, Role::outbound, p);
  Exchange* s = start(in, "s", mark(10, 7));
  Exchange* c = start(to, "c", mark(11, 7));
  end(in, s, mark(13, 7));
  end(to, c, mark(14, 7));
  EXPECT_FALSE(out.find("c")->parent.valid());
  EXPECT_EQ(unlinked("svc1", "outlived"), 1u);
}

TEST_F(World, NoRequestOpenMeansRootAtOnce) {
  auto p = process(1);
  auto& to = connection(2, Role::outbound, p);
  Exchange* c = start(to, "c", mark(11, 7));
  end(to, c, mark(14, 7));
  ASSERT_EQ(out.spans.size(), 1u);
  EXPECT_FALSE(out.spans[0].parent.valid());
  EXPECT_TRUE(out.spans[0].trace.valid());
}

TEST_F(World, BackgroundCallBesideARequestLeavesWhenNobodyCanClaimIt) {
  auto p = process(1);
  auto& in = connection(1, Role::inbound, p);
  auto& to = connection(2, Role::outbound, p);
  Exchange* s = start(in, "s", mark(10, 7));
  Exchange* c = start(to, "c", mark(11, 9));
  end(to, c, mark(12, 9));
  end(in, s, mark(13, 7));
  EXPECT_EQ(out.spans.size(), 2u);
  EXPECT_EQ(unlinked("svc1", "handed_over"), 1u);
}

TEST_F(World, GoroutinesOnAnyThread) {
  auto p = process(1, Runtime::go);
  auto& in = connection(1, Role::inbound, p);
  auto& to = connection(2, Role::outbound, p);
  Exchange* s = start(in, "s", mark(10, 7, true, 17));
  Exchange* c = start(to, "c", mark(11, 8, false, 17));
  end(to, c, mark(12, 9, true, 17));
  end(in, s, mark(13, 6, false, 17));
  EXPECT_EQ(out.find("c")->method, "coroutine");
  Exchange* s2 = start(in, "s2", mark(20, 7, true), {}, 50);
  Exchange* c2 = start(to, "c2", mark(21, 7), {}, 50);
  end(to, c2, mark(22, 7));
  end(in, s2, mark(23, 7));
  EXPECT_FALSE(out.find("c2")->parent.valid());
  EXPECT_EQ(unlinked("svc1", "no_goroutine"), 1u);
}

TEST_F(World, NodeIsRefused) {
  auto p = process(1, Runtime::timer_loop);
  auto& in = connection(1, Role::inbound, p);
  auto& to = connection(2, Role::outbound, p);
  Exchange* s = start(in, "s", mark(10, 7, true));
  Exchange* c = start(to, "c", mark(11, 7));
  end(to, c, mark(12, 7));
  end(in, s, mark(13, 7));
  EXPECT_FALSE(out.find("c")->parent.valid());
  EXPECT_EQ(unlinked("svc1", "timer_loop"), 1u);
}

TEST_F(World, SocketLoopInterleavedWithConnectOwnership) {
  auto p = process(1, Runtime::socket_loop);
  auto& a = connection(1, Role::inbound, p);
  auto& b = connection(2, Role::inbound, p);
  auto& ta = connection(3, Role::outbound, p);
  auto& tb = connection(4, Role::outbound, p);
  Exchange* s1 = start(a, "s1", mark(10, 7, true));
  connect(ta, mark(10.1, 7));
  Exchange* s2 = start(b, "s2", mark(10.2, 7, true));
  connect(tb, mark(10.3, 7));
  Exchange* c1 = start(ta, "c1", mark(10.4, 7));  // the window is s2's by now
  Exchange* c2 = start(tb, "c2", mark(10.5, 7));
  end(tb, c2, mark(12, 7, true));
  Exchange* c2b = start(ta, "c2b", mark(12.1, 7), {}, 100);  // kept alive: from c2's response
  end(ta, c1, mark(12.2, 7, true));
  end(a, s1, mark(12.3, 7));
  end(ta, c2b, mark(12.4, 7, true));
  end(b, s2, mark(12.5, 7));
  EXPECT_EQ(out.find("c1")->parent, out.find("s1")->id);
  EXPECT_EQ(out.find("c2")->parent, out.find("s2")->id);
  EXPECT_EQ(out.find("c2b")->parent, out.find("s2")->id);
  EXPECT_EQ(links("loop"), 3u);
}

TEST_F(World, SocketLoopWindowClosesWhenTheThreadHasSlept) {
  auto p = process(1, Runtime::socket_loop);
  auto& a = connection(1, Role::inbound, p);
  auto& t = connection(3, Role::outbound, p);
  IoMark read = mark(10, 7, true);
  read.cpu = 1000;
  IoMark later = mark(15, 7);
  later.cpu = 51000;
  Exchange* s1 = start(a, "s1", read);
  Exchange* c1 = start(t, "c1", later, {}, 100);
  end(t, c1, mark(16, 7, true));
  end(a, s1, mark(17, 7));
  EXPECT_FALSE(out.find("c1")->parent.valid());
  EXPECT_EQ(unlinked("svc1", "no_window"), 1u);
}

TEST_F(World, ConnectionJoinsBothEndsInEitherOrder) {
  auto p1 = process(1), p2 = process(2);
  const ConnectionIdentity id{111, 222};
  auto& to = connection(1, Role::outbound, p1, id);
  auto& in = connection(2, Role::inbound, p2, id.peer());
  // The send is stamped late: after the other end has answered.
  Exchange* s = start(in, "s", mark(10, 20));
  end(in, s, mark(11, 20));
  EXPECT_TRUE(out.spans.empty());
  processor.advance(12 * kMillisecond);
  Exchange* c = start(to, "c", mark(12.5, 7));
  end(to, c, mark(13, 7));
  ASSERT_EQ(out.spans.size(), 2u);
  EXPECT_EQ(out.find("s")->parent, out.find("c")->id);
  EXPECT_EQ(out.find("s")->trace, out.find("c")->trace);
  EXPECT_EQ(out.find("c")->start, 10 * kMillisecond) << "no later than its SERVER";
  EXPECT_EQ(out.find("s")->flags, 0x301u);
}

TEST_F(World, ObservedPeerThatNeverCallsIsWaitedForOnlySoLong) {
  auto p1 = process(1), p2 = process(2);
  const ConnectionIdentity id{111, 222};
  connection(1, Role::outbound, p1, id);
  auto& in = connection(2, Role::inbound, p2, id.peer());
  TraceParent header;
  header.valid = true;
  header.trace_id.bytes[0] = 9;
  header.parent_id.bytes[0] = 8;
  header.flags = 0;
  Exchange* s = start(in, "s", mark(10, 20), header);
  end(in, s, mark(11, 20));
  EXPECT_TRUE(out.spans.empty());
  processor.advance(11 * kMillisecond + options_.settle);
  ASSERT_EQ(out.spans.size(), 1u);
  EXPECT_EQ(out.spans[0].method, "traceparent");
  EXPECT_EQ(out.spans[0].parent, header.parent_id);
  EXPECT_EQ(out.spans[0].flags, 0x300u) << "sampled=0 stays in the flags";
}

// curl -> proxy -> app, the proxy passes the header on unchanged: spans nest by connection.
TEST_F(World, ProxyPassesTheHeaderOn) {
  auto curl = process(1), proxy = process(2, Runtime::socket_loop), app = process(3);
  const ConnectionIdentity id1{1, 2}, id2{3, 4};
  auto& c_out = connection(1, Role::outbound, curl, id1);
  auto& p_in = connection(2, Role::inbound, proxy, id1.peer());
  auto& p_out = connection(3, Role::outbound, proxy, id2);
  auto& a_in = connection(4, Role::inbound, app, id2.peer());
  TraceParent header;
  header.valid = true;
  header.trace_id.bytes[0] = 9;
  header.parent_id.bytes[0] = 8;
  header.flags = 1;
  Exchange* c = start(c_out, "c", mark(10, 10), header);
  Exchange* ps = start(p_in, "ps", mark(11, 20, true), header);
  connect(p_out, mark(11.1, 20));
  Exchange* pc = start(p_out, "pc", mark(11.2, 20), header);
  Exchange* as = start(a_in, "as", mark(12, 30), header);
  end(a_in, as, mark(13, 30));
  end(p_out, pc, mark(14, 20, true));
  end(p_in, ps, mark(15, 20));
  end(c_out, c, mark(16, 10));
  ASSERT_EQ(out.spans.size(), 4u);
  EXPECT_EQ(out.find("c")->parent, header.parent_id);
  EXPECT_EQ(out.find("ps")->parent, out.find("c")->id);
  EXPECT_EQ(out.find("pc")->parent, out.find("ps")->id);
  EXPECT_EQ(out.find("as")->parent, out.find("pc")->id);
  for (const Kept& k : out.spans) EXPECT_EQ(k.trace, header.trace_id);
}

TEST_F(World, HeaderOfAnotherTraceWinsOverTheOwner) {
  auto p = process(1);
  auto& in = connection(1, Role::inbound, p);
  auto& to = connection(2, Role::outbound, p);
  TraceParent header;
  header.valid = true;
  header.trace_id.bytes[3] = 1;
  header.parent_id.bytes[3] = 2;
  Exchange* s = start(in, "s", mark(10, 7));
  Exchange* c = start(to, "c", mark(11, 7), header);
  end(to, c, mark(12, 7));
  end(in, s, mark(13, 7));
  EXPECT_EQ(out.find("c")->trace, header.trace_id);
  EXPECT_EQ(out.find("c")->parent, header.parent_id);
  EXPECT_EQ(out.find("c")->method, "traceparent");
}

TEST_F(World, LinkWaitEndsTheWaitConsistently) {
  auto p1 = process(1), p2 = process(2);
  const ConnectionIdentity id{5, 6};
  auto& in = connection(1, Role::inbound, p1);
  auto& to = connection(2, Role::outbound, p1, id);
  auto& far = connection(3, Role::inbound, p2, id.peer());
  Exchange* s = start(in, "s", mark(10, 7));
  Exchange* c = start(to, "c", mark(11, 7));
  Exchange* f = start(far, "f", mark(11.5, 30));
  end(far, f, mark(12, 30));
  end(to, c, mark(12.5, 7));
  EXPECT_TRUE(out.spans.empty());
  processor.advance(5 * kSecond);
  ASSERT_EQ(out.spans.size(), 2u);
  EXPECT_EQ(out.find("f")->parent, out.find("c")->id);
  EXPECT_EQ(out.find("f")->trace, out.find("c")->trace);
  EXPECT_FALSE(out.find("c")->parent.valid());
  EXPECT_EQ(unlinked("svc1", "late"), 1u);
  end(in, s, mark(6000, 7));
  EXPECT_EQ(out.spans.size(), 3u);
}

TEST_F(World, TimeOfAThreadThatServedNobodyElse) {
  auto p = process(1);
  auto& in = connection(1, Role::inbound, p);
  IoMark read = mark(10, 7), write = mark(30, 7);
  read.cpu = 5'000'000;
  write.cpu = 7'000'000;
  write.runq = 1'000'000;
  Exchange* s = start(in, "s", read);
  end(in, s, write);
  EXPECT_DOUBLE_EQ(out.find("s")->cpu, 0.002);
  EXPECT_DOUBLE_EQ(out.find("s")->blocked, 0.017);
  // More CPU than time: the counters are not of one thread.
  read.time = 40 * kMillisecond;
  write.time = 41 * kMillisecond;
  s = start(in, "s2", read, {}, 50);
  end(in, s, write);
  EXPECT_EQ(out.find("s2")->cpu, -1);
}

TEST_F(World, FlushLetsEverythingGo) {
  auto p1 = process(1), p2 = process(2);
  const ConnectionIdentity id{5, 6};
  auto& in = connection(1, Role::inbound, p1);
  auto& to = connection(2, Role::outbound, p1, id);
  auto& far = connection(3, Role::inbound, p2, id.peer());
  start(in, "s", mark(10, 7));
  Exchange* c = start(to, "c", mark(11, 7));
  Exchange* f = start(far, "f", mark(11.5, 30));
  end(far, f, mark(12, 30));
  end(to, c, mark(12.5, 7));
  processor.flush(13 * kMillisecond);
  EXPECT_EQ(out.spans.size(), 2u);
  EXPECT_EQ(processor.waiting(), 0u);
  EXPECT_EQ(unlinked("svc1", "shutdown"), 1u);
}

TEST(ProcessorLimits, BudgetEvictsTheOldestAndThenRefuses) {
  Collect out;
  MetricRegistry metrics;
  ProcessorOptions options;
  options.memory = 64 * 1024;
  Processor processor(options, out, metrics);
  auto p = std::make_shared<Process>();
  p->pid = 1;
  p->service = "s";
  Connection in, to;
  in.id = 1;
  in.role = Role::inbound;
  to.id = 2;
  to.role = Role::outbound;
  in.process = to.process = p;
  const IoMark m{1000, 7, 0, 0, 0, false};
  Exchange* s = processor.begin(in, Side::server, 0, m);
  processor.request(*s);
  for (std::uint64_t i = 0; i < 1000; ++i) {  // ended, waiting for the owner
    IoMark at = m;
    at.time += i + 1;
    Exchange* c = processor.begin(to, Side::client, i * 10, at);
    ASSERT_NE(c, nullptr);
    c->request_last = c->response_first = c->response_last = at;
    processor.request(*c);
    processor.finish(c);
  }
  EXPECT_GT(out.spans.size(), 900u);
  EXPECT_GT(
      metrics.counter("olly_unlinked_total", "", {{"service", "s"}, {"cause", "evicted"}}).value(),
      900u);
  processor.flush(kSecond);
  std::size_t open = 0;
  while (processor.begin(in, Side::server, 1000 + open, m)) ++open;  // all open: nobody to evict
  EXPECT_GT(open, 5u);
  EXPECT_EQ(metrics.counter("olly_drops_total", "", {{"cause", "exchange_budget"}}).value(), 1u);
}

TEST(ProcessorLimits, ManyPendingStayCheap) {
  // 100,000 calls wait at once; a quadratic scan anywhere would take minutes.
  Collect out;
  MetricRegistry metrics;
  ProcessorOptions options;
  options.memory = std::size_t{1} << 30;
  Processor processor(options, out, metrics);
  auto p = std::make_shared<Process>();
  p->pid = 1;
  p->service = "s";
  Connection in, to;
  in.id = 1;
  in.role = Role::inbound;
  to.id = 2;
  to.role = Role::outbound;
  in.process = to.process = p;
  IoMark m{1000, 7, 0, 0, 0, false};
  Exchange* s = processor.begin(in, Side::server, 0, m);
  s->request_last = m;
  processor.request(*s);
  constexpr std::uint64_t kCalls = 100'000;
  for (std::uint64_t i = 0; i < kCalls; ++i) {
    ++m.time;
    Exchange* c = processor.begin(to, Side::client, i * 10, m);
    c->request_last = c->response_first = c->response_last = m;
    processor.request(*c);
    processor.finish(c);
  }
  EXPECT_EQ(processor.waiting(), kCalls);
  ++m.time;
  s->response_first = s->response_last = m;
  processor.finish(s);
  EXPECT_EQ(out.spans.size(), kCalls + 1);
  EXPECT_EQ(metrics.counter("olly_links_total", "", {{"method", "thread"}}).value(), kCalls);
}

}  // namespace
}  // namespace olly
