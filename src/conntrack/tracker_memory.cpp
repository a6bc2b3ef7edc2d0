// The Tracker's entries: who is made, rests, ages and is thrown out, within the memory budget.
#include <algorithm>
#include <utility>

#include "conntrack/tracker.h"

namespace olly::conntrack {
namespace {

using reassembly::Fate;
using reassembly::Stream;

// Streams and parsers of connections that rest, kept for the next that needs them.
constexpr std::size_t kMaxSpare = 256;
// Idle for so long, a connection rests. Under a full budget the one that was active longest ago
// does at once.
constexpr Nanos kRestAfter = 2 * kSecond;
constexpr std::uint64_t kParserBytes = 80;

}  // namespace

Tracker::Entry& Tracker::add(SocketId sock, Nanos time) noexcept {
  if (free_.empty()) {
    const auto first = static_cast<std::uint32_t>(slabs_.size() * kSlab);
    slabs_.push_back(std::make_unique<Entry[]>(kSlab));
    for (std::uint32_t i = kSlab; i > 0; --i) free_.push_back(first + i - 1);
  }
  Entry& e = entry(free_.back());
  e.number = free_.back();
  free_.pop_back();
  e.connection.id = sock;
  e.active = time;
  e.candidates = all_candidates();
  e.busy = take_busy();
  table_.insert(e.number, [this](std::uint32_t number) { return entry(number).connection.id; });
  lists_[kInUse].push_back(e);
  recent(sock) = {sock, &e};
  opened_.add();
  keep_within_budget(&e);
  return e;
}

std::uint32_t Tracker::all_candidates() const noexcept {
  return protocols_.size() >= 32 ? ~0u : (1u << protocols_.size()) - 1;
}

void Tracker::remove(Entry& e) noexcept {
  if ((e.resting && e.has_rested_parser) || e.waits_for_plaintext)
    protocols_[e.protocol]->forget(e.rested);
  if (!e.resting) give_busy(e);
  if (e.connection.tls()) --tls_connections_;
  table_.erase(e.connection.id,
               [this](std::uint32_t number) { return entry(number).connection.id; });
  lists_[e.list].remove(e);
  if (Recent& latest = recent(e.connection.id); latest.entry == &e) latest = {};
  const std::uint32_t number = e.number;
  e = Entry{};
  free_.push_back(number);
}

Tracker::Busy* Tracker::take_busy() {
  ++busy_;
  if (spare_.empty()) return std::make_unique<Busy>().release();
  Busy* busy = spare_.back().release();
  spare_.pop_back();
  return busy;
}

void Tracker::give_busy(Entry& e) noexcept {
  --busy_;
  stream_memory_ -= e.busy->memory;
  std::unique_ptr<Busy> busy(e.busy);
  e.busy = nullptr;
  *busy = Busy{};
  if (spare_.size() < kMaxSpare) spare_.push_back(std::move(busy));
}

// False: something is under way on it.
bool Tracker::rest(Entry& e) noexcept {
  if (e.resting) return true;
  if (e.busy->attention) return false;
  for (const Stream& s : e.busy->streams) {
    if (s.holding() || s.pending() > 0 || s.skip_until() > s.end()) return false;
  }
  if (e.busy->parser) {
    const auto rested = e.busy->parser->rest();
    if (!rested) return false;
    e.rested = *rested;
  }
  e.has_rested_parser = e.busy->parser != nullptr;
  const std::array<std::uint64_t, 2> end{e.busy->streams[0].end(), e.busy->streams[1].end()};
  give_busy(e);
  e.end = end;
  e.resting = true;
  return true;
}

void Tracker::wake(Entry& e) noexcept {
  if (!e.resting) return;
  const std::array<std::uint64_t, 2> end = e.end;
  e.busy = take_busy();
  e.resting = false;
  for (std::size_t i = 0; i < 2; ++i) e.busy->streams[i].begin(end[i]);
  if (e.has_rested_parser) {
    e.busy->parser = protocols_[e.protocol]->resume(e.connection, sink_, e.rested);
  }
}

void Tracker::move_to(Entry& e, std::uint8_t list) noexcept {
  lists_[e.list].remove(e);
  e.list = list;
  lists_[list].push_back(e);
}

std::uint64_t Tracker::memory_used() const noexcept {
  std::uint64_t rested = 0;
  for (const auto& protocol : protocols_) rested += protocol->rested_bytes();
  return table_.size() * sizeof(Entry) + table_.bytes() + busy_ * (sizeof(Busy) + kParserBytes) +
         tls_connections_ * sizeof(TlsConnection) + stream_memory_ + rested;
}

// The connection in use that was active longest ago rests, or is passed over until it moves bytes.
// False: there is none but the one that is being worked on.
bool Tracker::rest_oldest(const Entry* keep) noexcept {
  Entry* e = lists_[kInUse].front();
  if (e == nullptr || e == keep || e == lists_[kInUse].back()) return false;
  rest(*e);
  move_to(*e, kResting);
  return true;
}

void Tracker::keep_within_budget(const Entry* keep) noexcept {
  while (table_.size() > 1 && memory_used() > options_.memory) {
    if (rest_oldest(keep)) continue;
    const std::size_t before = table_.size();
    evict_one();
    if (table_.size() == before) return;
  }
}

void Tracker::evict_one() noexcept {
  for (const std::uint8_t list : {kOld, kIdle, kResting, kInUse}) {
    Entry* e = lists_[list].front();
    if (e == nullptr) continue;
    // The newest is the one that is being worked on.
    if (list == kInUse && e == lists_[list].back()) return;
    if (!e->resting) {
      end_parser(*e, EndReason::evicted, e->active, 0);
      for (const Direction d : {Direction::recv, Direction::send}) {
        e->busy->streams[index(d)].abandon(Fate::evicted, ledger(d));
      }
    }
    if (!e->silent) sink_.closed(e->connection, e->active);
    evicted_.add();
    remove(*e);
    return;
  }
}

void Tracker::age(Nanos now) noexcept {
  // `active` may be kTouch old.
  while (Entry* e = lists_[kInUse].front()) {
    if (now < e->active + kTouch + std::min(kRestAfter, options_.request_timeout)) break;
    rest(*e);
    move_to(*e, kResting);
  }
  while (Entry* e = lists_[kResting].front()) {
    if (now < e->active + kTouch + options_.request_timeout) break;
    if (!e->resting && e->busy->parser) e->busy->parser->timeout(now);
    rest(*e);
    move_to(*e, kIdle);
  }
  while (Entry* e = lists_[kIdle].front()) {
    if (now < e->active + std::max(options_.unix_idle, options_.request_timeout)) break;
    const Family family = e->connection.family;
    if (family == Family::inet || family == Family::inet6) {
      move_to(*e, kOld);  // its CLOSE will come
      continue;
    }
    CloseEvent close;
    close.time = now;
    close.sock = e->connection.id;
    on_close(close);
  }
}

bool Tracker::check_conservation() const noexcept {
  std::array<std::uint64_t, 2> pending{};
  for (const List& list : lists_) {
    for (Entry* e = list.front(); e != nullptr; e = List::next(*e)) {
      for (std::size_t i = 0; !e->resting && i < 2; ++i) {
        if (!e->busy->streams[i].conserved()) return false;
        pending[i] += e->busy->streams[i].pending();
      }
    }
  }
  return pending[0] == ledgers_[0].pending() && pending[1] == ledgers_[1].pending() &&
         ledgers_[0].settled() + pending[0] == ledgers_[0].seen &&
         ledgers_[1].settled() + pending[1] == ledgers_[1].seen;
}

}  // namespace olly::conntrack
