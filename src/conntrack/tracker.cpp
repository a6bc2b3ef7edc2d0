#include "conntrack/tracker.h"

#include <algorithm>
#include <utility>

#include "conntrack/tracker_reader.h"
#include "protocol/registry.h"

namespace olly::conntrack {
namespace {

using reassembly::Fate;
using reassembly::Segment;
using reassembly::Stream;

constexpr std::size_t kMaxOwn = 1024;
// A skip that reaches less far beyond what was seen is not worth telling the producer.
constexpr std::uint64_t kMinSkip = 4096;

}  // namespace

Tracker::Tracker(TrackerOptions options, CapturePolicy& policy, ProcessLookup& processes,
                 ExchangeSink& sink, MetricRegistry& metrics)
    : options_(std::move(options)),
      policy_(policy),
      processes_(processes),
      sink_(sink),
      protocols_(make_protocols(options_.disabled_protocols)),
      metrics_(metrics),
      seen_(metrics.counter("olly_bytes_total", "Bytes by fate", {{"fate", "seen"}})),
      pending_(metrics.gauge("olly_bytes_pending", "Bytes that wait for their fate", {}, "By")),
      open_(metrics.gauge("olly_connections", "Connections that are tracked")),
      memory_(metrics.gauge("olly_connections_memory_bytes",
                            "Memory of connections and their buffers", {}, "By")),
      opened_(metrics.counter("olly_connections_opened_total", "Connections that were tracked")),
      evicted_(metrics.counter("olly_connections_evicted_total",
                               "Connections thrown out by the memory budget")),
      unknown_(metrics.counter("olly_connections_unknown_total",
                               "Connections whose protocol is not known")),
      tls_opened_(metrics.counter("olly_connections_tls_total",
                                  "TLS connections whose plaintext was seen")) {
  tls_bytes_[0] = &metrics.counter("olly_tls_bytes_total", "Bytes of TLS connections by layer",
                                   {{"layer", "plaintext"}});
  tls_bytes_[1] = &metrics.counter("olly_tls_bytes_total", "Bytes of TLS connections by layer",
                                   {{"layer", "ciphertext"}});
  constexpr std::array<const char*, reassembly::kFates> kNames = {"parsed", "skipped", "gap",
                                                                  "evicted", "unparsed"};
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    fate_counters_[i] =
        &metrics.counter("olly_bytes_total", "Bytes by fate", {{"fate", kNames[i]}});
  }
}

Tracker::~Tracker() {
  for (List& list : lists_) {
    for (Entry* e = list.front(); e != nullptr; e = List::next(*e)) {
      if (!e->resting) delete e->busy;
    }
  }
}

Tracker::Entry* Tracker::find(SocketId sock) noexcept {
  Recent& latest = recent(sock);
  if (sock == latest.sock && latest.entry != nullptr) return latest.entry;
  const std::uint32_t found =
      table_.find(sock, [this](std::uint32_t number) { return entry(number).connection.id; });
  if (found == table_.kNone) return nullptr;
  latest = {sock, &entry(found)};
  return latest.entry;
}

void Tracker::touch(Entry& e, Nanos time) noexcept {
  if (e.list == kInUse && time < e.active + kTouch) return;
  e.active = std::max(e.active, time);
  move_to(e, kInUse);
}

void Tracker::end_parser(Entry& e, EndReason reason, Nanos time, std::uint32_t error) noexcept {
  if (!e.busy->parser) return;
  e.busy->parser->end(reason, time, error);
  e.busy->parser.reset();
}

// Both ends have agreed on another protocol from here on.
void Tracker::upgrade(Entry& e, std::string_view token, Nanos time) noexcept {
  const auto next = std::find_if(protocols_.begin(), protocols_.end(),
                                 [&](const auto& p) { return p->continues(token); });
  if (next == protocols_.end()) {
    end_parser(e, EndReason::unreadable, time, 0);
    make_quiet(e);
    return;
  }
  const Upgrade upgrade = e.busy->parser->hand_over();
  end_parser(e, EndReason::revised, time, 0);
  e.busy->parser = (*next)->take_over(e.connection, sink_, upgrade);
  e.protocol = static_cast<std::uint8_t>(next - protocols_.begin());
  settle_copy(e);
}

// Its protocol is known: what it need not read of a call is not copied.
void Tracker::settle_copy(Entry& e) noexcept {
  policy_.limit_copy(policy_id(e), protocols_[e.protocol]->bytes_per_call());
}

void Tracker::make_quiet(Entry& e) noexcept {
  if (e.mode == Mode::quiet) return;
  e.mode = Mode::quiet;
  policy_.quiet(policy_id(e));
}

bool Tracker::is_peer_of_own(const ConnectionIdentity& identity) const noexcept {
  if (!identity.known()) return false;
  const ConnectionIdentity peer = identity.peer();
  return std::any_of(own_.begin(), own_.end(),
                     [&](const OwnSocket& own) { return own.identity == peer; });
}

// Not ours to look at: its bytes are not counted from here on.
void Tracker::ignore(Entry& e) noexcept {
  wake(e);
  end_parser(e, EndReason::ignored, e.active, 0);
  for (const Direction d : {Direction::recv, Direction::send}) {
    e.busy->streams[index(d)].abandon(Fate::unparsed, ledger(d));
  }
  if (!e.silent) sink_.closed(e.connection, e.active);
  e.silent = true;
  if (e.own) make_quiet(e);
}

// A socket that only processes which are not observed have used so far: a listener's child gets it
// from its parent, say. False: it is still not for us.
bool Tracker::pick_up(Entry& e, const IoEvent& event) noexcept {
  if (e.own) return false;
  Connection& c = e.connection;
  if (c.process && c.process->pid == event.task.pid && e.generation == generation_) return false;
  c.process = processes_.process(event.task.pid);
  e.generation = generation_;
  if (!c.process->observed) return false;
  e.silent = false;
  e.mode = Mode::detecting;
  e.candidates = all_candidates();
  e.confirmed = false;
  e.lost = true;
  e.frames = 0;
  // Nobody told what was moved in the meantime.
  wake(e);
  e.busy->streams = {};
  e.busy->attempts = 0;
  e.from_start = {};
  e.unplaced = 3;
  if (c.tls()) c.tls()->placed = {};
  sink_.opened(c);
  return true;
}

void Tracker::add_own(const OpenEvent& event) noexcept {
  if (own_.size() >= kMaxOwn) own_.erase(own_.begin());
  own_.push_back({event.sock, event.identity});
  policy_.quiet(event.sock);
  if (!event.identity.known()) return;
  // Its other end may have been met before it: among the latest.
  const ConnectionIdentity peer = event.identity.peer();
  for (Entry* e = lists_[kInUse].back(); e != nullptr; e = List::prev(*e)) {
    if (!e->own && e->connection.identity == peer) {
      e->own = true;
      ignore(*e);
      return;
    }
  }
}

void Tracker::on_connect(const ConnectEvent& event) noexcept { sink_.connecting(event); }

void Tracker::on_open(const OpenEvent& event) noexcept {
  if (event.own) {
    add_own(event);
    return;
  }
  if (Entry* known = find(event.sock)) {
    if (known->connection.family == Family::none) {
      // Its first I/O came before it. What the sink knows it by changes.
      if (!known->silent) sink_.closed(known->connection, event.time);
      describe(*known, event);
      known->own = is_peer_of_own(known->connection.identity);
      if (!known->silent) sink_.opened(known->connection);
      if (known->own) ignore(*known);
      return;
    }
    const bool repeated = !event.identity.known() || !known->connection.identity.known() ||
                          event.identity == known->connection.identity;
    if (repeated) return;
    // Another connection under its id: the CLOSE of the one before was lost.
    CloseEvent lost;
    lost.time = event.time;
    lost.sock = event.sock;
    on_close(lost);
  }
  ProcessPtr process = processes_.process(event.task.pid);
  Entry& e = add(event.sock, event.time);
  describe(e, event);
  Connection& c = e.connection;
  c.process = std::move(process);
  e.generation = generation_;
  e.busy->streams[index(Direction::recv)].begin(event.recv_pos);
  e.busy->streams[index(Direction::send)].begin(event.send_pos);
  e.from_start = {event.recv_pos == 0, event.send_pos == 0};
  e.own = is_peer_of_own(c.identity);
  if (e.own) make_quiet(e);
  // A process that is not observed needs no word per socket: the producer knows the process. And
  // an observed one may use the socket later.
  e.silent = e.own || !c.process->observed;
  if (!e.silent) sink_.opened(c);
}

// What an OPEN tells, besides where the streams stand.
void Tracker::describe(Entry& e, const OpenEvent& event) noexcept {
  Connection& c = e.connection;
  c.identity = event.identity;
  c.family = event.local.family != Family::none ? event.local.family : event.remote.family;
  if (c.family == Family::none && !event.path.empty()) c.family = Family::unix_stream;
  if (event.role != Role::unknown) c.role = event.role;
  c.local = event.local;
  c.remote = event.remote;
  c.rare.set_path(event.path);
}

// The owner is who does the I/O. False: nobody we observe.
bool Tracker::settle_process(Entry& e, const IoEvent& event) noexcept {
  Connection& c = e.connection;
  if (c.process && c.process->pid == event.task.pid && e.generation == generation_) return true;
  ProcessPtr process = processes_.process(event.task.pid);
  e.generation = generation_;
  if (process->observed || !c.process) c.process = std::move(process);
  return c.process->observed;
}

void Tracker::on_io(const IoEvent& event) noexcept {
  Entry* e = find(event.sock);
  if (e == nullptr) {
    ProcessPtr process = processes_.process(event.task.pid);
    if (!process->observed) return;  // the producer knows the process; others may use the socket
    // Its OPEN was lost: nothing is known but where the stream stands.
    e = &add(event.sock, event.time);
    e->connection.process = std::move(process);
    e->generation = generation_;
    e->unplaced = 3;
    sink_.opened(e->connection);
  }
  touch(*e, event.time);
  if (e->silent && !pick_up(*e, event)) return;
  if (e->resting) {
    wake(*e);
    keep_within_budget(e);
  }
  if (!settle_process(*e, event)) {
    ignore(*e);
    return;
  }
  if (on_layer(*e, event)) return;
  Stream& stream = e->busy->streams[index(event.direction)];
  if ((e->unplaced & 1u << index(event.direction)) != 0) place(*e, event);
  if (e->mode == Mode::quiet) {
    stream.pass(event.position + event.length, Fate::unparsed, ledger(event.direction));
    sink_.activity(e->connection, event, nullptr);
    return;
  }
  read(*e, event);
  sink_.activity(e->connection, event,
                 e->busy->parser ? e->busy->parser->current(event.direction) : nullptr);
  if (options_.rest_at_once) rest(*e);
}

void Tracker::read(Entry& e, const IoEvent& event) noexcept {
  const Direction d = event.direction;
  // Held calls of the other direction that are older than this one's chance to overtake them.
  Stream& other = e.busy->streams[index(opposite(d))];
  if (other.holding() && event.time >= other.held_since() + reassembly::kHoldTime) {
    Reader reader(*this, e, opposite(d));
    other.release(ledger(opposite(d)), reader);
  }
  Stream& stream = e.busy->streams[index(d)];
  Reader reader(*this, e, d);
  const IoMark mark = mark_of(event);
  if (stream.holding() && event.time >= stream.held_since() + reassembly::kHoldTime) {
    stream.release(ledger(d), reader);
  }
  if (event.overlap) reader.gap(event.position, 0);
  if (event.length > 0) {
    const Segment segment{event.position, event.length, event.position + event.payload_offset,
                          event.payload, mark};
    stream.offer(segment, ledger(d), reader);
  }
  if (event.eof) end_of_stream(e, d, mark);
  if (reader.progress()) retry_other(e, d);
  after_read(e, d);
}

void Tracker::end_of_stream(Entry& e, Direction d, const IoMark& mark) noexcept {
  Reader reader(*this, e, d);
  e.busy->streams[index(d)].release(ledger(d), reader);
  if (e.busy->parser) e.busy->parser->eof(d, mark);
}

// A parser may have waited in one direction for what the other has brought now.
void Tracker::retry_other(Entry& e, Direction moved) noexcept {
  Direction d = opposite(moved);
  for (int rounds = 0; rounds < 64 && e.busy->streams[index(d)].buffering(); ++rounds) {
    Reader reader(*this, e, d);
    e.busy->streams[index(d)].retry(ledger(d), reader);
    if (!reader.progress()) return;
    d = opposite(d);
  }
}

void Tracker::after_read(Entry& e, Direction d) noexcept {
  if (e.mode == Mode::quiet) {
    for (const Direction each : {Direction::recv, Direction::send}) {
      e.busy->streams[index(each)].abandon(Fate::unparsed, ledger(each));
    }
  }
  Busy& busy = *e.busy;
  const Stream& stream = busy.streams[index(d)];
  const std::uint64_t until = stream.skip_until();
  if (until == reassembly::kToTheEnd) {
    // The calls still tell when the body moved; its bytes are not needed.
    if (!e.copy_limited) policy_.limit_copy(policy_id(e), 0);
    e.copy_limited = true;
  } else if (until > stream.end() + kMinSkip) {
    policy_.skip_until(policy_id(e), d, until);
  }
  const Stream& other = busy.streams[index(opposite(d))];
  const auto memory = static_cast<std::uint32_t>(stream.memory() + other.memory() +
                                                 (busy.parser ? busy.parser->memory() : 0));
  if (memory != busy.memory) {
    stream_memory_ += memory;
    stream_memory_ -= busy.memory;
    busy.memory = memory;
  }
  const bool wants =
      stream.holding() || other.holding() || (busy.parser && busy.parser->wake_at() != 0);
  if (wants && !busy.attention) {
    busy.attention = true;
    attention_.push_back(e.connection.id);
  }
}

void Tracker::on_close(const CloseEvent& event) noexcept {
  std::erase_if(own_, [&](const OwnSocket& own) { return own.sock == event.sock; });
  policy_.forget(event.sock);
  Entry* e = find(event.sock);
  if (e == nullptr) return;
  if (e->connection.encrypted()) {
    policy_.forget(policy_id(*e));
    if (event.positions_known) {
      count_ciphertext(*e, Direction::recv, event.recv_pos);
      count_ciphertext(*e, Direction::send, event.send_pos);
    }
  }
  if (e->silent) {
    remove(*e);
    return;
  }
  if (e->resting && (!event.positions_known || e->connection.encrypted())) {
    sink_.closed(e->connection, event.time);
    remove(*e);
    return;
  }
  say_unseen(*e, true);
  wake(*e);
  IoMark mark;
  mark.time = event.time;
  for (const Direction d : {Direction::recv, Direction::send}) {
    Stream& stream = e->busy->streams[index(d)];
    Reader reader(*this, *e, d);
    const std::uint64_t final_position = d == Direction::recv ? event.recv_pos : event.send_pos;
    const bool known =
        event.positions_known && (e->unplaced & 1u << index(d)) == 0 && !e->connection.encrypted();
    if (e->mode == Mode::quiet) {
      stream.pass(known ? final_position : stream.end(), Fate::unparsed, ledger(d));
    } else {
      stream.finish_at(known ? final_position : stream.end(), mark, ledger(d), reader);
      retry_other(*e, d);
    }
  }
  end_parser(*e, EndReason::closed, event.time, event.error);
  for (const Direction d : {Direction::recv, Direction::send}) {
    e->busy->streams[index(d)].abandon(Fate::unparsed, ledger(d));
  }
  sink_.closed(e->connection, event.time);
  remove(*e);
}

void Tracker::attend(Nanos now) noexcept {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < attention_.size(); ++i) {
    const SocketId sock = attention_[i];
    Entry* e = find(sock);
    // Closed; or one of the same id since, on which nothing waits.
    if (e == nullptr || e->resting || !e->busy->attention) continue;
    Busy& busy = *e->busy;
    for (const Direction d : {Direction::recv, Direction::send}) {
      Stream& stream = busy.streams[index(d)];
      if (!stream.holding() || now < stream.held_since() + reassembly::kHoldTime) continue;
      Reader reader(*this, *e, d);
      stream.release(ledger(d), reader);
      if (reader.progress()) retry_other(*e, d);
    }
    if (busy.parser && busy.parser->wake_at() != 0 && now >= busy.parser->wake_at()) {
      busy.parser->tick(now);
      retry_other(*e, Direction::recv);
      retry_other(*e, Direction::send);
    }
    // `attention` is still set: after_read does not add it while the list is walked.
    after_read(*e, Direction::recv);
    after_read(*e, Direction::send);
    busy.attention = busy.streams[0].holding() || busy.streams[1].holding() ||
                     (busy.parser && busy.parser->wake_at() != 0);
    if (busy.attention) attention_[kept++] = sock;
  }
  attention_.resize(kept);
}

// Each connection's own losses show in its positions.
void Tracker::on_loss(const LossEvent& event) noexcept { sink_.lost(event.from, event.to); }

void Tracker::on_advance(Nanos now) noexcept {
  if (!attention_.empty()) attend(now);
  unseen_tls_.due(now, [this](SocketId sock) { look_for_plaintext(sock); });
  age(now);
  keep_within_budget(nullptr);
  publish();
}

void Tracker::publish() noexcept {
  std::uint64_t seen = 0;
  std::uint64_t pending = 0;
  for (const reassembly::ByteLedger& l : ledgers_) {
    seen += l.seen;
    pending += l.pending();
  }
  const MetricRegistry::Update together(metrics_);  // the sum holds for whoever reads, whenever
  seen_.set(seen);
  pending_.set(static_cast<std::int64_t>(pending));
  for (std::size_t i = 0; i < reassembly::kFates; ++i) {
    fate_counters_[i]->set(ledgers_[0].fates[i] + ledgers_[1].fates[i]);
  }
  open_.set(static_cast<std::int64_t>(table_.size()));
  memory_.set(static_cast<std::int64_t>(memory_used()));
}

void Tracker::on_process_change(std::uint32_t) noexcept { ++generation_; }

// Its sockets close right after it, and say so; those that do not age. What it can still be asked
// for afterwards must not come from what was known of the pid.
void Tracker::on_process_exit(std::uint32_t, Nanos) noexcept { ++generation_; }

void Tracker::finish(Nanos now) noexcept {
  for (List& list : lists_) {
    for (Entry* e = list.front(); e != nullptr; e = List::next(*e)) {
      if (e->silent || e->resting || !e->busy->parser) continue;
      for (const Direction d : {Direction::recv, Direction::send}) {
        Reader reader(*this, *e, d);
        e->busy->streams[index(d)].release(ledger(d), reader);
      }
      end_parser(*e, EndReason::stopped, now, 0);
      e->mode = Mode::quiet;
      after_read(*e, Direction::recv);
    }
  }
  publish();
}

}  // namespace olly::conntrack
