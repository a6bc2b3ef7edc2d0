// TLS in the Tracker: a connection whose library's calls are seen has two layers. Its streams and
// its parser are the plaintext's; of the ciphertext only positions are kept, and its bytes count as
// skipped, since what they carry is read.
#include <algorithm>

#include "base/log.h"
#include "conntrack/tracker.h"

namespace olly::conntrack {
namespace {

using reassembly::Fate;
using reassembly::Stream;

}  // namespace

TlsConnection& Tracker::tls_of(Entry& e) {
  if (!e.connection.tls()) ++tls_connections_;
  return e.connection.rare.make_tls();
}

// Both ends have agreed to speak TLS (PostgreSQL's and MySQL's SSLRequest, say).
void Tracker::expect_tls(Entry& e, Nanos time) noexcept {
  if (const auto rested = e.busy->parser->rest()) {
    e.rested = *rested;
    e.waits_for_plaintext = true;
    e.busy->parser.reset();
  } else {
    end_parser(e, EndReason::revised, time, 0);
  }
  tls_of(e);  // what comes next are its hellos
  e.mode = Mode::detecting;
}

// The first bytes of a stream of which nothing said where it stands.
void Tracker::place(Entry& e, const IoEvent& event) noexcept {
  const bool begins = event.position == 0;
  // Plaintext that is seen from its beginning is so in both directions.
  const bool both = event.plaintext && begins && e.unplaced == 3;
  if (both) e.from_start[index(opposite(event.direction))] = true;
  e.unplaced &= ~(1u << index(event.direction));
  e.busy->streams[index(event.direction)].begin(event.position);
  e.from_start[index(event.direction)] = begins;
  if (!event.plaintext || !e.waits_for_plaintext) return;
  e.waits_for_plaintext = false;
  if (!both) {
    protocols_[e.protocol]->forget(e.rested);
    return;
  }
  e.busy->parser = protocols_[e.protocol]->resume(e.connection, sink_, e.rested);
  e.mode = Mode::parsing;
  e.confirmed = true;
  settle_copy(e);
}

// From here on its streams are the plaintext's. What was read of the socket before (a protocol that
// begins in the clear and then changes over, RFC 2817, STARTTLS) is over; what waits was
// ciphertext.
void Tracker::begin_plaintext(Entry& e, Nanos time) noexcept {
  wake(e);
  TlsConnection& tls = tls_of(e);
  end_parser(e, EndReason::revised, time, 0);
  for (const Direction d : {Direction::recv, Direction::send}) {
    Stream& stream = e.busy->streams[index(d)];
    stream.abandon(Fate::unparsed, ledger(d));
    tls.placed[index(d)] = (e.unplaced & 1u << index(d)) == 0;
    tls.end[index(d)] = stream.end();
    stream = {};
  }
  stream_memory_ -= e.busy->memory;
  e.busy->memory = 0;
  e.busy->attempts = 0;
  tls.layered = true;
  e.mode = Mode::detecting;
  e.candidates = all_candidates();
  e.frames = 0;
  e.confirmed = false;
  e.lost = false;
  e.copy_limited = false;
  e.from_start = {};
  e.unplaced = 3;
  tls_opened_.add();
  if (e.connection.process) unseen_tls_.seen(e.connection.process->exe);
}

// True: the event was the ciphertext's.
bool Tracker::on_layer(Entry& e, const IoEvent& event) noexcept {
  if ((event.plaintext || event.ciphertext) && !e.connection.encrypted()) {
    begin_plaintext(e, event.time);
  }
  if (!e.connection.encrypted()) return false;
  if (event.plaintext) {
    tls_bytes_[0]->add(event.length);
    return false;
  }
  on_ciphertext(e, event);
  return true;
}

void Tracker::on_ciphertext(Entry& e, const IoEvent& event) noexcept {
  const Direction d = event.direction;
  TlsConnection& tls = *e.connection.tls();
  const bool continues = !tls.placed[index(d)] || tls.end[index(d)] == event.position;
  if (!tls.placed[index(d)]) {
    tls.placed[index(d)] = true;
    tls.end[index(d)] = event.position;
  }
  count_ciphertext(e, d, event.position + event.length);
  if (!tls.hellos.done() && event.length > 0) {
    if (continues && event.payload_offset == 0 && event.payload.size() == event.length) {
      tls.hellos.feed(index(d), event.payload, tls.info);
    } else {
      tls.hellos.give_up();
    }
    if (tls.hellos.done()) policy_.quiet(e.connection.id);
  }
  if (event.eof) {
    end_of_stream(e, d, mark_of(event));
    after_read(e, d);
  }
}

// Up to `end` it has been moved, whether it made records or not.
void Tracker::count_ciphertext(Entry& e, Direction d, std::uint64_t end) noexcept {
  TlsConnection& tls = *e.connection.tls();
  if (!tls.placed[index(d)] || end <= tls.end[index(d)]) return;
  const std::uint64_t n = end - tls.end[index(d)];
  tls.end[index(d)] = end;
  ledger(d).seen += n;
  ledger(d).fates[static_cast<std::size_t>(Fate::skipped)] += n;
  tls_bytes_[1]->add(n);
}

void Tracker::on_tls(const TlsEvent& event) noexcept {
  Entry* e = find(event.sock);
  if (e == nullptr || e->silent) return;
  if (!e->connection.encrypted()) begin_plaintext(*e, event.time);
  TlsInfo& info = e->connection.tls()->info;
  if (event.version != 0) info.version = event.version;
  if (event.cipher != 0) info.cipher = event.cipher;
  if (!event.alpn.empty()) info.alpn = event.alpn;
  if (!event.server_name.empty()) info.server_name = event.server_name;
}

// Its plaintext should have come by now.
void Tracker::look_for_plaintext(SocketId sock) noexcept {
  Entry* e = find(sock);
  if (e != nullptr && !e->silent) say_unseen(*e, false);
}

void Tracker::say_unseen(const Entry& e, bool ended) noexcept {
  const Connection& c = e.connection;
  if (!c.tls() || c.encrypted() || !c.tls()->hellos.done() || !c.process || !c.process->observed)
    return;
  const std::string& exe = c.process->exe;
  if (!(ended ? unseen_tls_.ended(exe) : unseen_tls_.lives(exe))) return;
  log::info(
      "TLS of {} (pid {}) is not seen: no library that is probed or hooked; its bytes are only "
      "counted. `olly check` names the libraries that were found, and why not",
      c.process->exe, c.process->pid);
}

}  // namespace olly::conntrack
