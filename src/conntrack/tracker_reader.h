// What one Stream of a Tracker is read by: detection first, then the protocol's parser. A part of
// the Tracker with a file of its own; nobody else includes it.
#pragma once

#include <array>
#include <cstdint>

#include "conntrack/tracker.h"

namespace olly::conntrack {

// Calls of a connection met in its middle that may pass before it counts as unknown. One that
// continues what the call before it moved (a long body, say) counts once, a change of direction as
// kTurn: so an unknown protocol of questions and answers is given up after 64 of them.
inline constexpr std::uint16_t kMaxAttempts = 1024;
inline constexpr std::uint16_t kTurn = 16;
// A connection's first bytes that no protocol begins with may be an answer that is stamped before
// its question (threads stamp after they have moved): so much of them waits for the other side.
inline constexpr std::size_t kMaxEarly = 4096;
// Results without progress that a parser may give in a row; a parser never needs more than a few.
inline constexpr int kMaxIdleResults = 16;

class Tracker::Reader {
 public:
  Reader(Tracker& tracker, Entry& entry, Direction d) noexcept
      : tracker_(tracker), entry_(entry), direction_(d) {}

  bool progress() const noexcept { return progress_; }

  reassembly::ReadResult read(const Window& w) noexcept {
    for (;;) {
      if (entry_.mode == Mode::quiet) return give_up(w);
      if (entry_.mode == Mode::detecting) {
        const reassembly::ReadResult r = detect(w);
        if (entry_.mode == Mode::detecting) return r;
        if (entry_.mode == Mode::quiet) return give_up(w);
      }
      const ParseResult p = entry_.busy->parser->parse(direction_, w);
      reassembly::ReadResult r;
      if (translate(p, w, r)) return r;
    }
  }

  void skipped(std::uint64_t n, const IoMark& mark) noexcept {
    if (ProtocolParser* parser = entry_.busy->parser.get()) parser->skipped(direction_, n, mark);
  }

  void gap(std::uint64_t position, std::uint64_t length) noexcept {
    progress_ = true;
    entry_.from_start[index(direction_)] = false;
    if (ProtocolParser* parser = entry_.busy->parser.get())
      parser->gap(direction_, position, length);
    else
      entry_.lost = true;
  }

 private:
  static reassembly::ReadResult give_up(const Window& w) noexcept {
    return {w.bytes.size(), reassembly::Fate::unparsed, 0, false};
  }

  // False: parse again (another protocol takes over).
  bool translate(const ParseResult& p, const Window& w, reassembly::ReadResult& r) noexcept {
    r = {p.consumed, reassembly::Fate::parsed, p.skip, true};
    if (p.consumed > 0 || p.skip > 0) {
      progress_ = true;
      idle_ = 0;
    }
    switch (p.status) {
      case ParseStatus::frame:
        confirm();
        break;
      case ParseStatus::more:
        break;
      case ParseStatus::need_more:
        r.again = false;
        return true;
      case ParseStatus::discard:
        r.fate = reassembly::Fate::unparsed;
        break;
      case ParseStatus::invalid:
        if (!entry_.confirmed) {
          revise(w);
          return false;
        }
        r.fate = reassembly::Fate::unparsed;
        break;
      case ParseStatus::opaque:
        progress_ = true;
        tracker_.end_parser(entry_, EndReason::unreadable, w.last_mark().time, 0);
        tracker_.make_quiet(entry_);
        break;
      case ParseStatus::upgrade:
        progress_ = true;
        tracker_.upgrade(entry_, p.token, w.last_mark().time);
        break;
      case ParseStatus::tls:
        progress_ = true;
        tracker_.expect_tls(entry_, w.last_mark().time);
        break;
    }
    if (p.consumed == 0 && p.skip == 0 && ++idle_ > kMaxIdleResults) r.again = false;
    return true;
  }

  // Both directions, or two messages.
  void confirm() noexcept {
    if (entry_.confirmed) return;
    entry_.confirmed = entry_.frames > 0;
    ++entry_.frames;
  }

  // It was another protocol: the next candidate gets the bytes that are left. What was read of
  // either direction is gone, and it may have been the beginning of messages.
  void revise(const Window& w) noexcept {
    tracker_.end_parser(entry_, EndReason::revised, w.last_mark().time, 0);
    entry_.candidates &= ~(1u << entry_.protocol);
    entry_.frames = 0;
    if (entry_.candidates == 0) {
      tracker_.make_quiet(entry_);
      return;
    }
    entry_.mode = Mode::detecting;
    for (const Direction d : {Direction::recv, Direction::send}) {
      reassembly::Stream& stream = entry_.busy->streams[index(d)];
      if (stream.untouched()) continue;
      entry_.from_start[index(d)] = false;
      entry_.lost = true;
      if (stream.skip_until() <= stream.end()) continue;
      stream.end_skip();
      tracker_.policy_.skip_until(policy_id(entry_), d, 0);
    }
  }

  // What the candidates say of the bytes: the first that says yes, else the first that says maybe,
  // else -1. A yes does not wait for those that need more: it saw a whole start, they did not.
  int choose(ByteView bytes, bool& wait) const noexcept {
    int choice = -1;
    for (std::size_t i = 0; i < tracker_.protocols_.size(); ++i) {
      if ((entry_.candidates & (1u << i)) == 0) continue;
      const Verdict v = tracker_.protocols_[i]->detect(direction_, bytes);
      if (v == Verdict::yes) return static_cast<int>(i);
      if (v == Verdict::maybe && choice < 0) choice = static_cast<int>(i);
      wait |= v == Verdict::need_more;
    }
    return choice;
  }

  // A TLS connection whose library is not seen (yet): its hellos say with whom.
  reassembly::ReadResult read_hellos(const Window& w) noexcept {
    TlsConnection& tls = tracker_.tls_of(entry_);
    tls.hellos.feed(index(direction_), w.bytes, tls.info);
    if (tls.hellos.done()) {
      tracker_.unseen_tls_.met(entry_.connection.id, w.last_mark().time);
      return unknown(w);
    }
    progress_ = true;
    return give_up(w);
  }

  reassembly::ReadResult detect(const Window& w) noexcept {
    if (w.bytes.empty()) return {};
    if (!entry_.connection.encrypted() &&
        (entry_.connection.tls() ||
         (entry_.from_start[index(direction_)] && looks_like_tls(w.bytes)))) {
      return read_hellos(w);
    }
    bool wait = false;
    const int choice = choose(w.bytes, wait);
    if (choice >= 0) {
      entry_.protocol = static_cast<std::uint8_t>(choice);
      std::array<bool, 2> from_start = entry_.from_start;
      from_start[index(direction_)] = true;  // this direction stands at a message's start
      entry_.busy->parser = tracker_.protocols_[static_cast<std::size_t>(choice)]->open(
          entry_.connection, tracker_.sink_, from_start, entry_.lost);
      entry_.mode = Mode::parsing;
      tracker_.settle_copy(entry_);
      return {};
    }
    if (wait && w.bytes.size() < reassembly::kMaxPending) return {};
    if (entry_.from_start[index(direction_)]) return unknown_from_start(w);
    // In the middle: the next call may begin with a message.
    const bool send = direction_ == Direction::send;
    entry_.busy->attempts += entry_.busy->attempted_send == send ? 1 : kTurn;
    entry_.busy->attempted_send = send;
    if (entry_.busy->attempts >= kMaxAttempts) return unknown(w);
    std::size_t passed = w.bytes.size();
    for (const reassembly::MarkRange& m : w.marks) {
      if (m.begin > w.position && m.begin - w.position < passed) passed = m.begin - w.position;
    }
    return {passed, reassembly::Fate::unparsed, 0, passed < w.bytes.size()};
  }

  reassembly::ReadResult unknown_from_start(const Window& w) noexcept {
    const Direction other = opposite(direction_);
    const reassembly::Stream& answers = entry_.busy->streams[index(other)];
    const bool silent = entry_.from_start[index(other)] && answers.end() == answers.base();
    if (silent && w.bytes.size() <= kMaxEarly) return {};
    return unknown(w);
  }

  reassembly::ReadResult unknown(const Window& w) noexcept {
    tracker_.unknown_.add();
    tracker_.make_quiet(entry_);
    return give_up(w);
  }

  Tracker& tracker_;
  Entry& entry_;
  Direction direction_;
  bool progress_ = false;
  int idle_ = 0;
};

}  // namespace olly::conntrack
