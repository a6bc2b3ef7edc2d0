// The traces room: exchanges in, linked spans out.
//
//   ExchangeSink ─► Processor ─► context engine (inside a process), stitcher (between processes)
//                      └──────► builder ─► SpanSink
//
// A SERVER leaves when it has ended and its trace id is known: its CLIENT's if that is observed,
// else its traceparent's, else its own. A CLIENT leaves when it has ended and its owner is decided
// and knows its trace. Nothing waits longer than Options::link_wait after its response.
//
// One thread (the pipeline's). Time is event time: it moves with what is handed in and with
// advance(). Exchanges, their links and their text are pooled: no allocation in steady state.
#pragma once

#include <array>
#include <deque>
#include <string>
#include <unordered_map>
#include <vector>

#include "metrics/registry.h"
#include "protocol/exchange.h"
#include "traces/builder.h"
#include "traces/context/engine.h"
#include "traces/stitcher.h"

namespace olly {

struct ProcessorOptions {
  Nanos link_wait = 2 * kSecond;
  // How long a SERVER whose peer's socket is observed waits, after its response, for its CLIENT to
  // be seen: a send is stamped when it returns, which a preempted sender does late: by as much as
  // the run queue is long. Waiting costs nothing but the wait.
  Nanos settle = 200 * kMillisecond;
  // Of exchanges that are open or waiting, text included. At the limit the one that waits longest
  // leaves unlinked; when all are open, begin() refuses.
  std::size_t memory = 16 * 1024 * 1024;
  Nanos unix_offset = 0;  // added to every stamp
  context::EngineOptions engine;
};

class Processor final : public ExchangeSink, private context::Listener {
 public:
  Processor(const ProcessorOptions& options, SpanSink& sink, MetricRegistry& metrics);

  Exchange* begin(const Connection& connection, Side side, std::uint64_t position,
                  const IoMark& request_first) noexcept override;
  void request(Exchange& exchange) noexcept override;
  void overlapped(Exchange& exchange) noexcept override;
  void finish(Exchange* exchange) noexcept override;
  void activity(const Connection& connection, const IoEvent& event,
                Exchange* current) noexcept override;
  void connecting(const ConnectEvent& event) noexcept override;
  void lost(Nanos from, Nanos to) noexcept override;
  void opened(const Connection& connection) noexcept override;
  void closed(const Connection& connection, Nanos time) noexcept override;

  // The ids that the next request with such a header, sent by that process, has written itself.
  void injected(const InjectEvent& event) noexcept;

  // No event before `now` will follow: whoever has waited long enough leaves.
  void advance(Nanos now) noexcept;
  // Shutdown: everything that has ended leaves, unlinked where the link was not known yet.
  // Protocols have finished their open exchanges before.
  void flush(Nanos now) noexcept;

  std::size_t waiting() const noexcept { return settle_.size() + link_.size(); }
  std::size_t live() const noexcept { return live_; }

 private:
  using WaitList = IntrusiveList<Node, &Node::waiting>;

  // context::Listener
  void claimed(context::Call& call) noexcept override;
  void decided(context::Call& call) noexcept override;

  Node* take() noexcept;
  void give(Node& node) noexcept;
  bool evict_one() noexcept;
  void learn(Nanos time) noexcept { now_ = time > now_ ? time : now_; }

  void finish_server(Node& node) noexcept;
  void finish_client(Node& node) noexcept;
  void take_owner(Node& call, const Node& owner) noexcept;
  void take_injected(Node& call) noexcept;
  void give_trace(Node& server, const TraceId& trace, const SpanId& client,
                  std::uint8_t flags) noexcept;
  void settle_alone(Node& server) noexcept;
  void consider(Node& client) noexcept;
  void force(Node& client, context::Cause cause) noexcept;
  bool is_own_ancestor(const Node& client) const noexcept;
  void apply_decisions() noexcept;
  void spread() noexcept;
  void wait(Node& node, Node::Wait kind) noexcept;
  void unwait(Node& node) noexcept;
  void leave(Node& node) noexcept;
  void count(const Node& node) noexcept;
  void expire(Node& node, context::Cause cause) noexcept;

  ProcessorOptions options_;
  SpanSink& sink_;
  MetricRegistry& metrics_;
  context::Engine engine_;
  Stitcher stitcher_;
  Nanos now_ = 0;

  std::deque<Node> pool_;
  std::vector<Node*> free_;
  std::size_t live_ = 0;
  std::size_t used_ = 0;  // bytes of the budget
  std::uint64_t generations_ = 0;

  // Announced and not seen in a request yet; in the order of time.
  std::deque<InjectEvent> injected_;
  WaitList settle_;  // by deadline
  WaitList link_;
  std::vector<Node*> claimed_;  // told by the engine, not looked at yet
  std::vector<Node*> decided_;
  std::vector<Node*> spreading_;  // know their trace, their dependants do not yet
  std::vector<Node*> leaving_;

  Counter& injected_counter_;
  Counter& links_traceparent_;
  Counter& links_connection_;
  std::array<Counter*, 4> links_inside_{};  // by context::Method
  Counter& refused_;
  Counter& spans_;
  Gauge& waiting_gauge_;
  using ByCause = std::array<Counter*, context::kCauses>;
  std::unordered_map<std::string, ByCause>
      unlinked_;  // by service, bounded by the registry's limit
};

}  // namespace olly
