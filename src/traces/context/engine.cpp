#include "traces/context/engine.h"

#include <algorithm>
#include <limits>

namespace olly::context {
namespace {

constexpr Nanos kNever = std::numeric_limits<Nanos>::max();

// Counters of one thread that went backwards belong to two threads (the id was used again).
bool comparable(const IoMark& a, const IoMark& b) noexcept {
  return (a.cpu != 0 || a.runq != 0) && (b.cpu != 0 || b.runq != 0) && b.time >= a.time &&
         b.cpu >= a.cpu && b.runq >= a.runq;
}

}  // namespace

std::optional<TimeSplit> split(const IoMark& from, const IoMark& to, Nanos duration) noexcept {
  if (!comparable(from, to)) return std::nullopt;
  TimeSplit t{to.cpu - from.cpu, to.runq - from.runq, 0};
  // The counters are read a little before or after the stamp: that much may stick out.
  constexpr Nanos kRounding = 20 * kMicrosecond;
  if (t.cpu + t.runq > duration + kRounding) return std::nullopt;
  t.cpu = std::min(t.cpu, duration);
  t.runq = std::min(t.runq, duration - t.cpu);
  t.blocked = duration - t.cpu - t.runq;
  return t;
}

EcKey Engine::key_of(Runtime runtime, std::uint32_t pid, const IoMark& mark) noexcept {
  if (runtime == Runtime::go && mark.ec != 0) return {mark.ec, pid, EcKind::goroutine};
  return {mark.tid, pid, EcKind::thread};
}

Ec* Engine::find_ec(const EcKey& key) noexcept {
  Ec** found = ecs_.find(key);
  return found ? *found : nullptr;
}

Ec& Engine::ec(const EcKey& key, Nanos now) noexcept {
  if (Ec* known = find_ec(key)) {
    known->seen = std::max(known->seen, now);
    return *known;
  }
  if (ecs_.size() >= options_.max_contexts) sweep_ecs(now, 64, 0);
  Ec& e = ec_pool_.take();
  e.key = key;
  e.birth = now;
  e.seen = std::max<Nanos>(now, 1);
  ecs_.insert(key) = &e;
  return e;
}

ProcessState& Engine::process(std::uint32_t pid, Runtime runtime, Nanos now) noexcept {
  ProcessState** known = processes_.find(pid);
  ProcessState* p = known ? *known : nullptr;
  if (!p) {
    if (processes_.size() >= options_.max_processes) sweep_processes(now, 64, 0);
    p = &process_pool_.take();
    p->pid = pid;
    processes_.insert(pid) = p;
  }
  p->runtime = runtime;
  p->seen = std::max<Nanos>(now, 1);
  return *p;
}

SocketState* Engine::socket(SocketId sock, bool create) noexcept {
  if (SocketState** known = sockets_.find(sock)) return *known;
  if (!create || sockets_.size() >= options_.max_sockets) return nullptr;
  SocketState& s = socket_pool_.take();
  s.id = sock;
  sockets_.insert(sock) = &s;
  return &s;
}

void Engine::erase_socket(SocketState& s) noexcept {
  sockets_.erase(s.id);
  socket_pool_.give(s);
}

void Engine::share(Ec& e) noexcept {
  if (e.open_shared) return;
  for (Served* s = e.open.front(); s; s = e.open.next(*s)) s->reader_shared = true;
  e.open_shared = true;
}

void Engine::request_read(Served& s) noexcept {
  ProcessState& p = process(s.pid, s.runtime, s.read.time);
  s.process = &p;
  s.open = true;
  p.open.push_back(s);
  s.may_not_sleep = s.first.nonblocking || s.read.nonblocking;

  const EcKey key = key_of(s.runtime, s.pid, s.read);
  Ec& e = ec(key, s.read.time);
  if (!e.open.empty() && (e.open_shared || e.open.back()->sock != s.sock)) {
    share(e);
    s.reader_shared = true;
  }
  // Its first bytes came in while the reader was still busy with another connection's request.
  if (e.wrote > s.first.time && e.wrote_sock != s.sock &&
      key == key_of(s.runtime, s.pid, s.first)) {
    s.reader_shared = true;
  }
  e.open.push_back(s);
  s.reader = &e;
  if (s.runtime == Runtime::socket_loop) {
    s.socket = socket(s.sock, true);
    if (s.socket) s.socket->open.push_back(s);
  }
}

void Engine::answered(Served& s, const IoMark& first, const IoMark& last) noexcept {
  if (!s.open) return;
  Ec* reader = s.reader;
  // While the request is in its reader's list, making the writer cannot make the reader be
  // forgotten.
  Ec* writer = last.seen() ? &ec(key_of(s.runtime, s.pid, last), last.time) : nullptr;
  if (writer && s.runtime == Runtime::socket_loop && last.time > writer->last.time) {
    account(*writer, &s, last, true);
  }
  s.open = false;
  reader->open.remove(s);
  if (s.socket) {
    s.socket->open.remove(s);
    if (s.socket->closed && s.socket->open.empty()) erase_socket(*s.socket);
    s.socket = nullptr;
  }
  ProcessState& p = *s.process;
  p.open.remove(s);

  if (writer) {
    const EcKey key = writer->key;
    if (first.seen() && key_of(s.runtime, s.pid, first) != key) s.several_writers = true;
    if (s.writer.id != 0 && s.writer != key) s.several_writers = true;
    s.writer = key;
    const bool by_thread = s.runtime == Runtime::unknown && key.id != 0;
    const bool by_goroutine = s.runtime == Runtime::go && key.kind == EcKind::goroutine;
    if (by_thread || by_goroutine) decide_by_writer(s, *writer, last);
    writer->answered = std::max(writer->answered, last.time);
  }
  if (reader->open.empty()) reader->open_shared = false;

  for (Call* c = s.claims.front(); c; c = s.claims.next(*c)) {
    if (c->owner_answered == 0) c->owner_answered = last.seen() ? last.time : kNever;
  }
  s.process = nullptr;
  drop_unclaimable(p);
}

void Engine::decide_by_writer(Served& s, Ec& w, const IoMark& last) noexcept {
  const bool same = s.reader->key == w.key;
  const bool thread = w.key.kind == EcKind::thread;
  // What the writer did before it last wrote something else is not this request's.
  Nanos from = s.read.time;
  from = std::max(from, w.wrote_sock == s.sock ? w.wrote_before : w.wrote);
  if (w.answered < last.time) from = std::max(from, w.answered);

  bool shared = s.writer_shared || (same && s.reader_shared);
  for (Served* other = w.open.front(); other && !shared; other = w.open.next(*other)) {
    if (other->sock == s.sock) continue;
    shared = true;
  }
  if (!w.open.empty() && shared) share(w);

  Cause refused = Cause::none;
  if (holes(s.first.time, last.time)) {
    refused = Cause::lost_events;
  } else if (s.several_writers) {
    refused = Cause::ambiguous;
  } else if (shared || s.overlapped) {
    refused = Cause::event_loop;
  } else if (same && thread && s.may_not_sleep) {
    refused = Cause::nonblocking;
  } else if (!same && thread && calls_overlap(w, from, last.time)) {
    refused = Cause::ambiguous;
  }

  for (Call* c = w.calls.back(); c && c->begun.time >= from;) {
    Call& call = *c;
    c = w.calls.prev(call);
    if (call.begun.time > last.time) continue;
    Cause cause = refused;
    if (cause == Cause::none && call.multiplexed &&
        (call.overlapped || !call.ended || call.read_elsewhere)) {
      cause = Cause::ambiguous;
    }
    if (cause == Cause::none && !same) {
      if (!call.ended) {
        cause = Cause::outlived;
      } else if (thread && call.read_elsewhere) {
        cause = Cause::ambiguous;
      } else if (thread && call.may_not_sleep) {
        cause = Cause::nonblocking;
      }
    }
    if (cause != Cause::none) {
      unown(call, cause);
      continue;
    }
    claim(call, s, thread ? Method::thread : Method::coroutine);
    call.owner_answered = last.time;
    if (call.state == Call::State::claimed && call.ended) settle_claim(call);
  }
}

// Whether events may be missing between the two times, or not long enough before.
bool Engine::holes(Nanos from, Nanos to) const noexcept {
  for (std::size_t i = losses_.size(); i > 0; --i) {
    const Loss& loss = losses_[i - 1];
    if (loss.to + kLossShadow < from) return false;
    if (loss.from <= to) return true;
  }
  return false;
}

void Engine::lost(Nanos from, Nanos to) noexcept {
  if (!losses_.empty() && from <= losses_.back().to) {
    losses_.back().to = std::max(losses_.back().to, to);
    return;
  }
  if (losses_.size() == kMaxLosses) {
    // One hole from the oldest to the next: more than is true, never less.
    losses_[1].from = losses_[0].from;
    losses_.erase(losses_.begin());
  }
  losses_.push_back({from, to});
}

// A worker's calls do not overlap; an event loop's do. `calls` is in the order of begin.
bool Engine::calls_overlap(const Ec& e, Nanos from, Nanos to) const noexcept {
  Nanos next_begin = kNever;
  for (const Call* c = e.calls.back(); c && c->begun.time >= from; c = e.calls.prev(*c)) {
    if (c->begun.time > to) continue;
    if (next_begin != kNever && (!c->ended || c->response_last.time > next_begin)) return true;
    next_begin = c->begun.time;
  }
  return false;
}

void Engine::call_began(Call& call, bool first_bytes, bool connects) noexcept {
  const Nanos now = call.begun.time;
  ProcessState& p = process(call.pid, call.runtime, now);
  if (p.open.empty()) return unown(call, Cause::none);
  if (call.runtime == Runtime::timer_loop) return unown(call, Cause::timer_loop);
  if (call.runtime == Runtime::go && call.begun.ec == 0) return unown(call, Cause::no_goroutine);
  if (call.begun.tid == 0 && call.begun.ec == 0) return unown(call, Cause::handed_over);

  Ec& e = ec(key_of(call.runtime, call.pid, call.begun), now);
  if (call.runtime != Runtime::socket_loop) {
    call.ec = &e;
    e.calls.push_back(call);
    call.process = &p;
    p.calls.push_back(call);
    call.switches = e.last_sock == call.sock ? e.switches : e.switches + 1;
    return;
  }
  Served* owner = nullptr;
  if (first_bytes) {
    SocketState* s = socket(call.sock, false);
    const bool seen = s && s->connect_seen;
    if (!seen && connects) return unown(call, Cause::no_connect);
    owner = seen ? s->connect_owner.open() : current(e, call.begun);
  } else {
    owner = current(e, call.begun);
  }
  if (!owner || owner->read.time > now) return unown(call, Cause::no_window);
  claim(call, *owner, Method::loop);
}

void Engine::claim(Call& call, Served& served, Method method) noexcept {
  if (call.ec) {
    call.ec->calls.remove(call);
    call.ec = nullptr;
  }
  if (call.process) {
    call.process->calls.remove(call);
    call.process = nullptr;
  }
  call.state = Call::State::claimed;
  call.method = method;
  call.owner = &served;
  served.claims.push_back(call);
  listener_.claimed(call);
}

void Engine::unown(Call& call, Cause cause) noexcept {
  if (call.ec) {
    call.ec->foreign = std::max(call.ec->foreign, call.begun.time);
    call.ec->calls.remove(call);
    call.ec = nullptr;
  }
  if (call.process) {
    call.process->calls.remove(call);
    call.process = nullptr;
  }
  if (call.owner) {
    call.owner->claims.remove(call);
    call.owner = nullptr;
  }
  // Where its request, connect() or answer may be what is missing, nothing else is known.
  const bool by_absence = cause == Cause::none || cause == Cause::handed_over ||
                          cause == Cause::no_window || cause == Cause::no_connect;
  if (by_absence && holes(call.begun.time, call.begun.time)) {
    cause = Cause::lost_events;
  }
  call.state = Call::State::unowned;
  call.method = Method::none;
  call.cause = cause;
  listener_.decided(call);
}

void Engine::settle_claim(Call& call) noexcept {
  if (call.owner_answered != 0 && call.response_last.seen() &&
      call.response_last.time > call.owner_answered) {
    return unown(call, Cause::outlived);
  }
  call.state = Call::State::owned;
  listener_.decided(call);
}

void Engine::call_ended(Call& call, const IoMark& first, const IoMark& last) noexcept {
  call.ended = true;
  call.response_last = last;
  if (last.seen()) {
    const EcKey sender = key_of(call.runtime, call.pid, call.begun);
    call.read_elsewhere = key_of(call.runtime, call.pid, last) != sender ||
                          (first.seen() && key_of(call.runtime, call.pid, first) != sender);
    call.may_not_sleep = first.nonblocking || last.nonblocking;
    note_foreign(call, last);
    if (call.runtime == Runtime::socket_loop) {
      Served* owner = call.overlapped ? nullptr : call.owner;
      if (SocketState* s = socket(call.sock, true)) s->last_owner = ServedHandle::of(owner);
    }
  }
  if (call.state == Call::State::claimed) {
    if (call.overlapped) return unown(call, Cause::ambiguous);
    // Without a response, it ended when it was given up: after its owner's answer that is too late.
    // (Its response may also just not have been seen.)
    if (!last.seen() && call.owner_answered != 0 && call.owner_answered != kNever) {
      return unown(call, Cause::outlived);
    }
    settle_claim(call);
  } else if (call.state == Call::State::undecided && call.process) {
    drop_unclaimable(*call.process);
  }
}

void Engine::give_up(Call& call, Cause cause) noexcept {
  if (call.state == Call::State::undecided || call.state == Call::State::claimed)
    unown(call, cause);
}

// A call that began when nothing of what is open now had been read has no owner left to wait for.
void Engine::drop_unclaimable(ProcessState& p) noexcept {
  while (Call* c = p.calls.front()) {
    if (!p.open.empty() && p.open.front()->read.time <= c->begun.time) return;
    unown(*c, Cause::handed_over);
  }
}

// The thread worked for a call that its open request did not make.
void Engine::note_foreign(const Call& call, const IoMark& mark) noexcept {
  Ec* e = find_ec(key_of(call.runtime, call.pid, mark));
  if (!e || e->open.empty()) return;
  if (key_of(call.runtime, call.pid, call.begun) != e->key ||
      call.begun.time < e->open.front()->first.time) {
    e->foreign = std::max(e->foreign, mark.time);
  }
}

void Engine::io(const Io& io) noexcept {
  if (io.mark.tid == 0) return;  // not known who ran
  Ec& e = ec(key_of(io.runtime, io.pid, io.mark), io.mark.time);
  if (io.runtime == Runtime::socket_loop) {
    io_loop(io, e);
  } else {
    io_threads(io, e);
  }
}

void Engine::io_threads(const Io& io, Ec& e) noexcept {
  if (e.last_sock != io.sock) {
    e.last_sock = io.sock;
    ++e.switches;
  }
  if (io.role == Role::inbound) {
    const bool others = !e.open.empty() && (e.open_shared || e.open.front()->sock != io.sock);
    if (io.direction == Direction::recv) {
      if (others && io.length != 0) share(e);
      return;
    }
    if (others) share(e);
    if (io.served) {
      if (others) io.served->writer_shared = true;
      if (io.served->writer.id == 0) {
        io.served->writer = e.key;
      } else if (io.served->writer != e.key) {
        io.served->several_writers = true;
      }
    }
    if (e.wrote_sock != io.sock) {
      e.wrote_before = e.wrote;
      e.wrote_sock = io.sock;
    }
    e.wrote = io.mark.time;
    return;
  }
  if (io.call) note_foreign(*io.call, io.mark);
}

void Engine::io_loop(const Io& io, Ec& e) noexcept {
  ServedHandle owner;
  const bool mixed = (io.served && io.served->overlapped) || (io.call && io.call->overlapped);
  if (mixed) {
    // Whose bytes these are is not certain, so neither is what is done next.
  } else if (io.role == Role::inbound) {
    owner = ServedHandle::of(io.served);
  } else if (io.call) {
    owner = ServedHandle::of(io.call->owner);
  } else if (SocketState* s = socket(io.sock, false)) {
    owner = s->last_owner;  // the call ended in this very event, or the peer closes behind it
  }
  account(e, owner.open(), io.mark, io.direction == Direction::send);
  if (io.direction != Direction::recv) return;
  const bool set = !mixed && (io.role == Role::inbound || owner.open() != nullptr);
  e.window = {set, owner, io.sock, io.mark};
}

// Adds what the thread used since its last event, if that was for the same request and this one is
// a write: before a read it may have slept and served nobody.
void Engine::account(Ec& thread, Served* owner, const IoMark& mark, bool writes) noexcept {
  if (writes && owner && thread.last_owner.open() == owner && mark.time > thread.last.time) {
    const Nanos wall = mark.time - thread.last.time;
    if (const std::optional<TimeSplit> t = split(thread.last, mark, wall)) {
      owner->segment_cpu += t->cpu;
      owner->segment_runq += t->runq;
      owner->segment_wall += wall;
      ++owner->segments;
    } else {
      owner->segments_known = false;
    }
  }
  thread.last = mark;
  thread.last_owner = ServedHandle::of(owner);
}

Served* Engine::current(Ec& thread, const IoMark& now) noexcept {
  const Window& w = thread.window;
  if (!w.set) return nullptr;
  if (comparable(w.opened, now)) {
    const Nanos used = (now.cpu - w.opened.cpu) + (now.runq - w.opened.runq);
    if (now.time - w.opened.time > used + kWindowSleep) return nullptr;
  }
  Served* owner = w.owner.open();
  // Pipelined requests are served one after the other, in their order, without another read.
  SocketState* s = socket(w.sock, false);
  Served* oldest = s ? s->open.front() : nullptr;
  if (oldest && oldest->overlapped) return nullptr;  // not in their order
  Served* found = oldest && (owner || oldest->read.time <= w.opened.time) ? oldest : owner;
  return found && !holes(found->read.time, now.time) ? found : nullptr;
}

void Engine::connecting(const ConnectEvent& event) noexcept {
  if (event.error != 0) return;
  ProcessState** p = processes_.find(event.task.pid);
  if (!p || (*p)->runtime != Runtime::socket_loop) return;
  SocketState* s = socket(event.sock, true);
  if (!s) return;
  s->connect_seen = true;
  const IoMark mark{event.time,     event.task.tid,  event.task.ec,
                    event.task.cpu, event.task.runq, false};
  Ec* thread = find_ec({event.task.tid, event.task.pid, EcKind::thread});
  s->connect_owner = ServedHandle::of(thread ? current(*thread, mark) : nullptr);
}

void Engine::closed(SocketId sock) noexcept {
  SocketState* s = socket(sock, false);
  if (!s) return;
  s->closed = true;
  if (s->open.empty()) erase_socket(*s);
}

std::optional<TimeSplit> Engine::time_of(const Served& s, const IoMark& last) noexcept {
  if (!last.seen() || last.time < s.first.time) return std::nullopt;
  if (s.overlapped || holes(s.first.time, last.time)) return std::nullopt;
  if (s.runtime == Runtime::socket_loop) {
    if (s.segments == 0 || !s.segments_known) return std::nullopt;
    const Nanos used = s.segment_cpu + s.segment_runq;
    return TimeSplit{s.segment_cpu, s.segment_runq,
                     s.segment_wall - std::min(used, s.segment_wall)};
  }
  if (s.runtime != Runtime::unknown || s.first.tid != last.tid || s.read.tid != last.tid) {
    return std::nullopt;
  }
  if (s.reader_shared || s.writer_shared || s.several_writers) return std::nullopt;
  const Ec* e = find_ec(key_of(s.runtime, s.pid, last));
  if (!e || e->foreign >= s.first.time) return std::nullopt;
  return split(s.first, last, last.time - s.first.time);
}

std::optional<TimeSplit> Engine::time_of(const Call& c) noexcept {
  const IoMark& last = c.response_last;
  if (c.runtime != Runtime::unknown || !last.seen() || last.tid != c.begun.tid ||
      c.read_elsewhere || c.overlapped || last.time < c.begun.time ||
      holes(c.begun.time, last.time)) {
    return std::nullopt;
  }
  const Ec* e = find_ec(key_of(c.runtime, c.pid, last));
  if (!e || c.switches == 0 || e->last_sock != c.sock || e->switches != c.switches) {
    return std::nullopt;
  }
  return split(c.begun, last, last.time - c.begun.time);
}

void Engine::sweep_ecs(Nanos now, std::size_t steps, Nanos idle) noexcept {
  for (; steps > 0 && !ec_pool_.all.empty(); --steps) {
    if (ec_hand_ >= ec_pool_.all.size()) ec_hand_ = 0;
    Ec& e = ec_pool_.all[ec_hand_++];
    if (e.seen == 0 || !e.open.empty() || !e.calls.empty() || e.seen + idle > now) continue;
    ecs_.erase(e.key);
    e.seen = 0;
    ec_pool_.give(e);
  }
}

void Engine::sweep_processes(Nanos now, std::size_t steps, Nanos idle) noexcept {
  for (; steps > 0 && !process_pool_.all.empty(); --steps) {
    if (process_hand_ >= process_pool_.all.size()) process_hand_ = 0;
    ProcessState& p = process_pool_.all[process_hand_++];
    if (p.seen == 0 || !p.open.empty() || !p.calls.empty() || p.seen + idle > now) continue;
    processes_.erase(p.pid);
    p.seen = 0;
    process_pool_.give(p);
  }
}

void Engine::advance(Nanos now) noexcept {
  if (now < swept_ + 100 * kMillisecond) return;
  swept_ = now;
  // A whole round takes no longer than `idle` (300 steps of 100 ms): visit the 1/256th each time.
  sweep_ecs(now, ec_pool_.all.size() / 256 + 8, options_.idle);
  sweep_processes(now, process_pool_.all.size() / 256 + 2, options_.idle);
}

std::size_t Engine::bytes() const noexcept {
  return ecs_.bytes() + processes_.bytes() + sockets_.bytes() + ec_pool_.all.size() * sizeof(Ec) +
         process_pool_.all.size() * sizeof(ProcessState) +
         socket_pool_.all.size() * sizeof(SocketState);
}

}  // namespace olly::context
