// Connections: from the events of sockets to the exchanges of protocols.
//
// The Tracker keeps one entry per socket, puts both directions together, finds out the protocol,
// drives its parser, and gives every byte its fate. A connection that is idle rests: its streams
// and its parser are given back, and made again from the little that was kept when it moves bytes;
// what stays are about 165 bytes, so that 100,000 fit into 16 MiB. One thread. No method throws;
// what does not fit into the budget is evicted, the least recently active connection first, and
// counted.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/flat_map.h"
#include "base/index_table.h"
#include "base/intrusive_list.h"
#include "conntrack/connection.h"
#include "conntrack/unseen_tls.h"
#include "discovery/process.h"
#include "event/event.h"
#include "hook/provider.h"
#include "metrics/registry.h"
#include "protocol/exchange.h"
#include "protocol/protocol.h"
#include "reassembly/ledger.h"
#include "reassembly/stream.h"

namespace olly::conntrack {

struct TrackerOptions {
  std::uint64_t memory = 40ull * 1024 * 1024;  // entries, buffers and parsers
  Nanos request_timeout = 60 * kSecond;        // idle without a response: finished as "timeout"
  Nanos unix_idle = 600 * kSecond;  // UNIX sockets may have no CLOSE: forgotten after this
  std::vector<std::string> disabled_protocols;  // names of the registry
  bool rest_at_once = false;  // after every call that leaves nothing under way; for tests
};

class Tracker {
 public:
  // The references must outlive the Tracker.
  Tracker(TrackerOptions options, CapturePolicy& policy, ProcessLookup& processes,
          ExchangeSink& sink, MetricRegistry& metrics);
  ~Tracker();
  Tracker(const Tracker&) = delete;
  Tracker& operator=(const Tracker&) = delete;

  void on_connect(const ConnectEvent& event) noexcept;
  void on_open(const OpenEvent& event) noexcept;
  void on_io(const IoEvent& event) noexcept;
  void on_close(const CloseEvent& event) noexcept;
  void on_tls(const TlsEvent& event) noexcept;
  void on_loss(const LossEvent& event) noexcept;
  void on_advance(Nanos now) noexcept;
  // What is known of the process has changed (exec): asked for again at its next I/O.
  void on_process_change(std::uint32_t pid) noexcept;
  void on_process_exit(std::uint32_t pid, Nanos time) noexcept;
  // Finishes every open exchange as "agent stopped" and publishes the figures. For shutdown and for
  // the end of a recording.
  void finish(Nanos now) noexcept;

  // Totals by direction, exact at any time (the metrics follow with on_advance).
  const reassembly::ByteLedger& bytes(Direction d) const noexcept { return ledgers_[index(d)]; }
  std::size_t connections() const noexcept { return table_.size(); }
  // A protocol was found, and confirmed by both directions or a second message. For tests.
  bool confirmed(SocketId sock) noexcept {
    const Entry* e = find(sock);
    return e != nullptr && e->mode == Mode::parsing && e->confirmed;
  }
  std::uint64_t memory_used() const noexcept;
  // seen = parsed + skipped + gap + evicted + unparsed + pending, in total and per stream, with
  // pending counted anew. Walks every connection: for tests.
  bool check_conservation() const noexcept;

 private:
  enum class Mode : std::uint8_t { detecting, parsing, quiet };
  // What a connection needs only while something is under way on it.
  struct Busy {
    std::uint16_t attempts = 0;   // see kMaxAttempts
    bool attempted_send = false;  // the direction of the last of them
    std::array<reassembly::Stream, 2> streams;
    std::unique_ptr<ProtocolParser> parser;
    std::uint32_t memory = 0;  // of streams and parser, as last counted
    bool attention = false;    // is in attention_
  };
  struct Entry {
    Connection connection;
    Hook<Entry> hook;
    union {
      Busy* busy = nullptr;              // not resting; the Tracker's
      std::array<std::uint64_t, 2> end;  // resting: how far the streams went
    };
    Nanos active = 0;
    std::uint32_t number = 0;      // in slabs_
    std::uint32_t generation = 0;  // of process knowledge
    std::uint32_t candidates = 0;  // bit per protocol
    std::uint32_t rested = 0;      // resting: what the parser goes on with
    std::uint8_t protocol = 0;
    Mode mode = Mode::detecting;
    std::uint8_t frames = 0;  // valid messages seen, by direction bits 0,1 and count in the rest
    std::array<bool, 2> from_start{};
    std::uint8_t list : 2 = 0;
    std::uint8_t unplaced : 2 = 0;  // by direction: nothing said where the stream stands, its first
                                    // bytes will
    bool confirmed : 1 = false;
    bool lost : 1 = false;  // bytes were lost before the protocol was known
    bool copy_limited : 1 = false;
    bool silent : 1 = false;  // not for the sink: `own`, or no observed process uses it (yet)
    bool own : 1 = false;     // the other end of one of the agent's own sockets
    bool resting : 1 = false;
    bool has_rested_parser : 1 = false;
    bool waits_for_plaintext : 1 = false;  // `rested` is what the parser goes on with in TLS
  };
  class Reader;
  using List = IntrusiveList<Entry, &Entry::hook>;
  struct IdHash {
    std::uint64_t operator()(SocketId id) const noexcept { return mix64(id); }
  };
  struct OwnSocket {
    SocketId sock;
    ConnectionIdentity identity;
  };
  static_assert(sizeof(Entry) <= 152);  // 100,000 of them and their table: 16 MiB
  // By number, for table_.
  Entry& entry(std::uint32_t number) const noexcept {
    return slabs_[number / kSlab][number % kSlab];
  }
  std::uint32_t all_candidates() const noexcept;
  Entry* find(SocketId sock) noexcept;
  Entry& add(SocketId sock, Nanos time) noexcept;
  void remove(Entry& entry) noexcept;
  void touch(Entry& entry, Nanos time) noexcept;
  Busy* take_busy();
  void give_busy(Entry& entry) noexcept;
  bool rest(Entry& entry) noexcept;
  void wake(Entry& entry) noexcept;
  bool rest_oldest(const Entry* keep) noexcept;
  void move_to(Entry& entry, std::uint8_t list) noexcept;
  bool settle_process(Entry& entry, const IoEvent& event) noexcept;
  void ignore(Entry& entry) noexcept;
  void describe(Entry& entry, const OpenEvent& event) noexcept;
  bool pick_up(Entry& entry, const IoEvent& event) noexcept;
  bool is_peer_of_own(const ConnectionIdentity& identity) const noexcept;
  void add_own(const OpenEvent& event) noexcept;
  void make_quiet(Entry& entry) noexcept;
  void read(Entry& entry, const IoEvent& event) noexcept;
  void upgrade(Entry& entry, std::string_view token, Nanos time) noexcept;
  void settle_copy(Entry& entry) noexcept;
  void end_of_stream(Entry& entry, Direction d, const IoMark& mark) noexcept;
  void retry_other(Entry& entry, Direction moved) noexcept;
  void after_read(Entry& entry, Direction d) noexcept;
  void end_parser(Entry& entry, EndReason reason, Nanos time, std::uint32_t error) noexcept;
  void evict_one() noexcept;
  void keep_within_budget(const Entry* keep) noexcept;
  void attend(Nanos now) noexcept;
  void age(Nanos now) noexcept;
  void publish() noexcept;
  // tracker_tls.cpp
  TlsConnection& tls_of(Entry& entry);
  void expect_tls(Entry& entry, Nanos time) noexcept;
  void begin_plaintext(Entry& entry, Nanos time) noexcept;
  void place(Entry& entry, const IoEvent& event) noexcept;
  bool on_layer(Entry& entry, const IoEvent& event) noexcept;
  void look_for_plaintext(SocketId sock) noexcept;
  void say_unseen(const Entry& e, bool ended) noexcept;
  void on_ciphertext(Entry& entry, const IoEvent& event) noexcept;
  void count_ciphertext(Entry& entry, Direction d, std::uint64_t end) noexcept;
  // What the policy of the bytes that are read goes by.
  static SocketId policy_id(const Entry& e) noexcept {
    return e.connection.encrypted() ? plaintext_layer(e.connection.id) : e.connection.id;
  }
  reassembly::ByteLedger& ledger(Direction d) noexcept { return ledgers_[index(d)]; }

  TrackerOptions options_;
  CapturePolicy& policy_;
  ProcessLookup& processes_;
  ExchangeSink& sink_;
  std::vector<std::unique_ptr<Protocol>> protocols_;

  static constexpr std::size_t kSlab = 128;
  // lists_, by last activity: in use; resting, as far as they can; idle for the request time-out;
  // idle for longer than unix_idle.
  static constexpr std::uint8_t kInUse = 0;
  static constexpr std::uint8_t kResting = 1;
  static constexpr std::uint8_t kIdle = 2;
  static constexpr std::uint8_t kOld = 3;
  // An entry moves to the front of its list at most this often: exact order costs cache misses.
  static constexpr Nanos kTouch = kSecond;
  IndexTable<SocketId, IdHash> table_;  // of entries' numbers
  std::vector<std::unique_ptr<Entry[]>> slabs_;
  std::vector<std::uint32_t> free_;           // numbers
  std::vector<std::unique_ptr<Busy>> spare_;  // a few
  std::size_t busy_ = 0;                      // entries that do not rest
  std::array<List, 4> lists_;
  std::vector<SocketId> attention_;  // held calls, parsers that want to be woken
  std::vector<OwnSocket> own_;
  std::array<reassembly::ByteLedger, 2> ledgers_;
  std::uint64_t stream_memory_ = 0;
  std::uint64_t tls_connections_ = 0;
  UnseenTls unseen_tls_;
  std::uint32_t generation_ = 1;
  // The sockets of the latest events, by their low bits: spares most look-ups the table, whose
  // every probe goes to an entry.
  struct Recent {
    SocketId sock = 0;
    Entry* entry = nullptr;
  };
  std::array<Recent, 64> recent_{};
  Recent& recent(SocketId sock) noexcept { return recent_[sock % 64]; }

  MetricRegistry& metrics_;
  std::array<Counter*, reassembly::kFates> fate_counters_{};
  Counter& seen_;
  Gauge& pending_;
  Gauge& open_;
  Gauge& memory_;
  Counter& opened_;
  Counter& evicted_;
  Counter& unknown_;
  Counter& tls_opened_;
  std::array<Counter*, 2> tls_bytes_{};  // plaintext, ciphertext
};

}  // namespace olly::conntrack
