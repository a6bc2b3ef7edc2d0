#include "traces/processor.h"

#include <algorithm>
#include <memory>

#include "base/tls_names.h"
#include "traces/semconv.h"

namespace olly {
namespace {

constexpr std::string_view kLinks = "olly_links_total";
constexpr std::string_view kLinksHelp = "Spans whose parent was found, by how";
constexpr std::string_view kUnlinked = "olly_unlinked_total";
constexpr std::string_view kUnlinkedHelp =
    "Spans that have a parent somewhere which was not found, by why";
// What an open exchange is charged before its text is known.
constexpr std::size_t kOpenText = 1024;
// A pooled exchange gives back text memory beyond this.
constexpr std::size_t kKeepText = 8 * 1024;
// Ids that were announced and wait for their request, which comes next.
constexpr std::size_t kMaxInjected = 1024;
constexpr Nanos kInjectedWait = 10 * kSecond;

void add_tls(AttributeList& out, const TlsInfo& tls) {
  out.add(semconv::kTlsProtocolName, "tls");
  if (const auto version = tls_version_text(tls.version); !version.empty()) {
    out.add(semconv::kTlsProtocolVersion, version);
  }
  if (const auto cipher = tls_cipher_name(tls.cipher); !cipher.empty()) {
    out.add(semconv::kTlsCipher, cipher);
  }
  if (!tls.alpn.empty()) out.add(semconv::kTlsNextProtocol, tls.alpn);
  if (!tls.server_name.empty()) out.add(semconv::kTlsClientServerName, tls.server_name);
}

Node& node_of(context::Call& call) noexcept { return *static_cast<Node*>(call.user); }
Node& node_of(context::Served& served) noexcept { return *static_cast<Node*>(served.user); }

}  // namespace

Processor::Processor(const ProcessorOptions& options, SpanSink& sink, MetricRegistry& metrics)
    : options_(options),
      sink_(sink),
      metrics_(metrics),
      engine_(options.engine, *this),
      injected_counter_(metrics.counter(
          "olly_injected_total", "CLIENT spans whose ids libolly.so has put into their request")),
      links_traceparent_(metrics.counter(kLinks, kLinksHelp, {{"method", "traceparent"}})),
      links_connection_(metrics.counter(kLinks, kLinksHelp, {{"method", "connection"}})),
      refused_(metrics.counter("olly_drops_total", "What was lost, by cause",
                               {{"cause", "exchange_budget"}})),
      spans_(metrics.counter("olly_spans_total", "Spans made")),
      waiting_gauge_(metrics.gauge("olly_spans_waiting", "Ended exchanges that wait for a link")) {
  using context::Method;
  for (const Method m : {Method::thread, Method::coroutine, Method::loop}) {
    links_inside_[static_cast<std::size_t>(m)] =
        &metrics.counter(kLinks, kLinksHelp, {{"method", std::string(method_name(m))}});
  }
}

Node* Processor::take() noexcept {
  while (used_ + sizeof(Node) + kOpenText > options_.memory) {
    if (!evict_one()) {
      refused_.add();
      return nullptr;
    }
  }
  Node* node;
  if (free_.empty()) {
    node = &pool_.emplace_back();
  } else {
    node = free_.back();
    free_.pop_back();
  }
  node->charged = sizeof(Node) + kOpenText;
  used_ += node->charged;
  ++live_;
  return node;
}

// Keeps the memory of the text.
void Processor::give(Node& node) noexcept {
  used_ -= node.charged;
  --live_;
  AttributeList text = std::move(node.exchange.attributes);
  std::destroy_at(&node);
  std::construct_at(&node);
  if (text.bytes() <= kKeepText) {
    text.clear();
    node.exchange.attributes = std::move(text);
  }
  free_.push_back(&node);
}

bool Processor::evict_one() noexcept {
  Node* oldest = settle_.front();
  if (!oldest || (link_.front() && link_.front()->deadline < oldest->deadline)) {
    oldest = link_.front() ? link_.front() : oldest;
  }
  if (!oldest) return false;
  expire(*oldest, context::Cause::evicted);
  return true;
}

Exchange* Processor::begin(const Connection& connection, Side side, std::uint64_t position,
                           const IoMark& request_first) noexcept {
  learn(request_first.time);
  Node* taken = take();
  if (!taken) return nullptr;
  Node& n = *taken;
  Exchange& e = n.exchange;
  e.engine = &n;
  e.side = side;
  e.sock = connection.id;
  e.identity = connection.identity;
  e.position = position;
  e.process = connection.process;
  e.request_first = request_first;
  if (connection.encrypted()) add_tls(e.attributes, connection.tls()->info);
  n.family = connection.family;
  n.served.user = &n;
  n.call.user = &n;
  n.key = span_key(e.identity, e.sock, position, side);
  n.id = span_id_of(n.key);
  stitcher_.enter(n);
  if (Join* join = n.join) {
    if (side == Side::server) {
      const bool known = join->client ? join->client->trace_known : join->client_left;
      if (known) {
        const TraceId trace = join->client ? join->client->trace : join->trace;
        const std::uint8_t flags = join->client ? join->client->trace_flags : join->trace_flags;
        give_trace(n, trace, join->client_span, flags);
      }
    } else if (Node* server = join->server; server && server->wait == Node::Wait::settle) {
      unwait(*server);
      wait(*server, Node::Wait::link);
    }
  }
  spread();
  return &e;
}

void Processor::request(Exchange& e) noexcept {
  Node& n = *static_cast<Node*>(e.engine);
  n.announced = true;
  learn(e.request_last.time);
  if (e.side == Side::server) {
    context::Served& s = n.served;
    s.generation = ++generations_;
    s.sock = e.sock;
    s.pid = e.process->pid;
    s.runtime = e.process->runtime;
    s.first = e.request_first;
    s.read = e.request_last.seen() ? e.request_last : e.request_first;
    engine_.request_read(s);
    if (n.trace_known) spreading_.push_back(&n);
  } else {
    context::Call& c = n.call;
    c.sock = e.sock;
    c.pid = e.process->pid;
    c.runtime = e.process->runtime;
    c.begun = e.request_first;
    c.multiplexed = e.multiplexed;
    if (e.trace_parent.valid) {
      take_injected(n);
      n.trace = e.trace_parent.trace_id;
      n.trace_flags = e.trace_parent.flags;
      n.trace_known = true;
      spreading_.push_back(&n);
      if (n.injected) e.trace_parent = {};
    }
    engine_.call_began(c, e.position == 0, n.family != Family::unix_stream);
  }
  apply_decisions();
}

void Processor::overlapped(Exchange& e) noexcept {
  Node& n = *static_cast<Node*>(e.engine);
  n.served.overlapped = n.call.overlapped = true;
}

void Processor::finish(Exchange* exchange) noexcept {
  if (!exchange) return;
  Node& n = *static_cast<Node*>(exchange->engine);
  n.finished = true;
  set_times(n);
  learn(n.end);
  const std::size_t charge = sizeof(Node) + exchange->attributes.bytes();
  used_ = used_ - n.charged + charge;
  n.charged = charge;
  if (exchange->side == Side::server) {
    finish_server(n);
  } else {
    finish_client(n);
  }
  apply_decisions();
}

void Processor::finish_server(Node& n) noexcept {
  const Exchange& e = n.exchange;
  if (n.announced) {
    engine_.answered(n.served, e.response_first, e.response_last);
    n.time = engine_.time_of(n.served, e.response_last);
  }
  if (n.trace_known) {
    leaving_.push_back(&n);
  } else if (n.join && n.join->client) {
    wait(n, Node::Wait::link);
  } else if (n.join && stitcher_.observed(e.identity.peer())) {
    wait(n, Node::Wait::settle);
  } else {
    settle_alone(n);
  }
}

void Processor::finish_client(Node& n) noexcept {
  const Exchange& e = n.exchange;
  if (n.announced) {
    engine_.call_ended(n.call, e.response_first, e.response_last);
    n.time = engine_.time_of(n.call);
  } else {
    n.call.state = context::Call::State::unowned;
  }
  consider(n);
  if (n.parent_known) {
    leaving_.push_back(&n);
  } else {
    wait(n, Node::Wait::link);
  }
}

void Processor::activity(const Connection& connection, const IoEvent& event,
                         Exchange* current) noexcept {
  learn(event.time);
  if (!connection.process) return;
  context::Io io;
  io.sock = connection.id;
  io.role = connection.role;
  io.direction = event.direction;
  io.length = event.length;
  io.pid = connection.process->pid;
  io.runtime = connection.process->runtime;
  io.mark = mark_of(event);
  if (current) {
    Node& n = *static_cast<Node*>(current->engine);
    if (n.announced && current->side == Side::server) io.served = &n.served;
    if (n.announced && current->side == Side::client) io.call = &n.call;
    io.role = current->side == Side::server ? Role::inbound : Role::outbound;
  }
  engine_.io(io);
}

void Processor::connecting(const ConnectEvent& event) noexcept {
  learn(event.time);
  engine_.connecting(event);
}

void Processor::lost(Nanos from, Nanos to) noexcept { engine_.lost(from, to); }

void Processor::opened(const Connection& connection) noexcept {
  stitcher_.opened(connection.identity);
}

void Processor::closed(const Connection& connection, Nanos time) noexcept {
  learn(time);
  engine_.closed(connection.id);
  stitcher_.closed(connection.identity, now_, options_.link_wait);
}

void Processor::claimed(context::Call& call) noexcept { claimed_.push_back(&node_of(call)); }
void Processor::decided(context::Call& call) noexcept { decided_.push_back(&node_of(call)); }

void Processor::take_owner(Node& call, const Node& owner) noexcept {
  call.owner_known = true;
  call.owner_trace = owner.trace;
  call.owner_span = owner.id;
  call.owner_flags = owner.trace_flags;
}

void Processor::injected(const InjectEvent& event) noexcept {
  learn(event.time);
  while (!injected_.empty() && (injected_.size() >= kMaxInjected ||
                                injected_.front().time + kInjectedWait < event.time)) {
    injected_.pop_front();
  }
  injected_.push_back(event);
}

// The header that this call's request came with: its own span's ids, if libolly.so has said so just
// before.
void Processor::take_injected(Node& n) noexcept {
  const TraceParent& header = n.exchange.trace_parent;
  const auto found = std::ranges::find_if(injected_, [&](const InjectEvent& e) {
    return e.span_id == header.parent_id.bytes && e.trace_id == header.trace_id.bytes &&
           e.pid == n.exchange.process->pid;
  });
  if (found == injected_.end()) return;
  injected_.erase(found);
  n.injected = true;
  n.id = header.parent_id;
  if (n.join) n.join->client_span = n.id;
  injected_counter_.add();
}

// Looks at what the engine has said, once the engine has returned.
void Processor::apply_decisions() noexcept {
  for (std::size_t i = 0; i < claimed_.size(); ++i) {
    Node& n = *claimed_[i];
    context::Served* owner = n.call.owner;
    if (!owner) continue;
    if (is_own_ancestor(n)) {
      force(n, context::Cause::ambiguous);
      continue;
    }
    if (const Node& s = node_of(*owner); s.trace_known) take_owner(n, s);
  }
  claimed_.clear();
  for (std::size_t i = 0; i < decided_.size(); ++i) {
    Node& n = *decided_[i];
    consider(n);
    if (n.parent_known && n.finished) leaving_.push_back(&n);
  }
  decided_.clear();
  spread();
}

// A request that (through late stamps) would be the parent of the call that caused it.
bool Processor::is_own_ancestor(const Node& client) const noexcept {
  const Node* at = &client;
  while (at->call.owner) {
    const Node& server = node_of(*at->call.owner);
    if (server.trace_known || !server.join || !server.join->client) return false;
    at = server.join->client;
    if (at == &client) return true;
    if (at->trace_known) return false;
  }
  return false;
}

void Processor::give_trace(Node& server, const TraceId& trace, const SpanId& client,
                           std::uint8_t flags) noexcept {
  server.trace = trace;
  server.trace_flags = flags;
  server.parent = client;
  server.method = "connection";
  server.remote_known = server.remote = true;
  server.trace_known = server.parent_known = true;
  spreading_.push_back(&server);
}

void Processor::settle_alone(Node& server) noexcept {
  const TraceParent& header = server.exchange.trace_parent;
  if (header.valid) {
    server.trace = header.trace_id;
    server.parent = header.parent_id;
    server.trace_flags = header.flags;
    server.method = "traceparent";
    server.remote_known = server.remote = true;
    server.cause = context::Cause::none;
  } else {
    server.trace = root_trace_id_of(server.key);
    // Its calls may have said already what the trace is.
    for (context::Call* c = server.served.claims.front(); c; c = server.served.claims.next(*c)) {
      if (const Node& call = node_of(*c); call.injected) {
        server.trace = call.trace;
        server.trace_flags = call.trace_flags;
        break;
      }
    }
  }
  server.trace_known = server.parent_known = true;
  spreading_.push_back(&server);
}

// Settles a CLIENT's parent as soon as everything for that is known.
void Processor::consider(Node& n) noexcept {
  using State = context::Call::State;
  if (n.parent_known) return;
  const TraceParent& header = n.exchange.trace_parent;
  const bool owned = n.call.state == State::owned;
  if (!owned && n.call.state != State::unowned) return;
  if (owned && !n.owner_known) return;
  // Its request has told another trace than its owner's: no parent in another trace.
  const bool apart = n.injected && owned && n.owner_trace != n.trace;
  if (owned && !apart && (!header.valid || header.trace_id == n.owner_trace)) {
    if (!header.valid && !n.injected) {
      n.trace = n.owner_trace;
      n.trace_flags = n.owner_flags;
    }
    n.parent = n.owner_span;
    n.method = method_name(n.call.method);
    n.remote_known = true;
    n.remote = false;
  } else if (header.valid) {
    // Whoever wrote the header knows better: no parent in another trace. Whether that parent is in
    // this process is not known.
    n.parent = header.parent_id;
    n.method = "traceparent";
  } else {
    if (!n.injected) n.trace = root_trace_id_of(n.key);
    n.cause = apart ? context::Cause::injected : n.call.cause;
  }
  n.parent_known = true;
  if (!n.trace_known) {
    n.trace_known = true;
    spreading_.push_back(&n);
  }
}

// Ends a CLIENT's wait for its owner.
void Processor::force(Node& n, context::Cause cause) noexcept {
  using State = context::Call::State;
  if (n.parent_known) return;
  if (n.call.state == State::undecided || n.call.state == State::claimed) {
    engine_.give_up(n.call, cause);  // comes back through decided()
    return;
  }
  if (n.call.owner) {
    n.call.owner->claims.remove(n.call);
    n.call.owner = nullptr;
  }
  n.call.state = State::unowned;
  n.call.cause = cause;
  decided_.push_back(&n);
}

// Hands trace ids down to everyone who waits for them, at any depth, then lets go who is complete.
void Processor::spread() noexcept {
  while (!spreading_.empty()) {
    Node& n = *spreading_.back();
    spreading_.pop_back();
    if (n.key.side == Side::server) {
      for (context::Call* c = n.served.claims.front(); c; c = n.served.claims.next(*c)) {
        Node& call = node_of(*c);
        take_owner(call, n);
        consider(call);
        if (call.parent_known && call.finished) leaving_.push_back(&call);
      }
      if (n.finished) leaving_.push_back(&n);
    } else if (n.join && n.join->server && !n.join->server->trace_known) {
      give_trace(*n.join->server, n.trace, n.id, n.trace_flags);
    }
  }
  // A node may be named twice; `finished` is cleared when it goes.
  for (std::size_t i = 0; i < leaving_.size(); ++i) {
    if (leaving_[i]->finished) leave(*leaving_[i]);
  }
  leaving_.clear();
}

void Processor::wait(Node& node, Node::Wait kind) noexcept {
  node.wait = kind;
  node.deadline = now_ + (kind == Node::Wait::settle ? options_.settle : options_.link_wait);
  (kind == Node::Wait::settle ? settle_ : link_).push_back(node);
}

void Processor::unwait(Node& node) noexcept {
  if (node.wait == Node::Wait::none) return;
  (node.wait == Node::Wait::settle ? settle_ : link_).remove(node);
  node.wait = Node::Wait::none;
}

void Processor::leave(Node& n) noexcept {
  unwait(n);
  count(n);
  const Span span = build_span(n, options_.unix_offset);
  sink_.emit(span);
  spans_.add();
  while (context::Call* c = n.served.claims.front()) {
    n.served.claims.remove(*c);
    c->owner = nullptr;
  }
  if (n.call.owner) n.call.owner->claims.remove(n.call);
  stitcher_.leave(n, now_, options_.link_wait);
  give(n);
}

void Processor::count(const Node& n) noexcept {
  if (n.method == "traceparent") {
    links_traceparent_.add();
  } else if (n.method == "connection") {
    links_connection_.add();
  } else if (!n.method.empty()) {
    links_inside_[static_cast<std::size_t>(n.call.method)]->add();
  } else if (n.cause != context::Cause::none) {
    std::string service = n.exchange.process->service;
    if (unlinked_.size() >= MetricRegistry::kMaxSeries && !unlinked_.contains(service)) {
      service = "other";
    }
    Counter*& counter = unlinked_[service][static_cast<std::size_t>(n.cause)];
    if (!counter) {
      counter =
          &metrics_.counter(kUnlinked, kUnlinkedHelp,
                            {{"service", service}, {"cause", std::string(cause_name(n.cause))}});
    }
    counter->add();
  }
}

// The node has waited long enough, or there is no more room, or no more time. It leaves.
void Processor::expire(Node& n, context::Cause cause) noexcept {
  if (n.key.side == Side::client) {
    force(n, cause);
  } else if (n.join && n.join->client && !n.join->client->trace_known) {
    force(*n.join->client, cause);  // becomes a root; this one its child
  } else {
    n.cause = cause == context::Cause::late ? context::Cause::no_call : cause;
    settle_alone(n);
  }
  apply_decisions();
}

void Processor::advance(Nanos now) noexcept {
  learn(now);
  while (settle_.front() && settle_.front()->deadline <= now_) {
    expire(*settle_.front(), context::Cause::late);
  }
  while (link_.front() && link_.front()->deadline <= now_) {
    expire(*link_.front(), context::Cause::late);
  }
  engine_.advance(now_);
  stitcher_.advance(now_);
  waiting_gauge_.set(static_cast<std::int64_t>(waiting()));
}

void Processor::flush(Nanos now) noexcept {
  advance(now);
  while (settle_.front()) expire(*settle_.front(), context::Cause::shutdown);
  while (link_.front()) expire(*link_.front(), context::Cause::shutdown);
  waiting_gauge_.set(0);
}

}  // namespace olly
