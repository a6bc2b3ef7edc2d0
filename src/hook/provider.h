// A Provider produces Events: from the kernel (ebpf), from libolly.so (socket, a later issue), from
// a recording (replay), or none at all (stub). The pipeline thread owns it: every method is called
// from that thread unless it says otherwise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/time.h"
#include "event/event.h"

namespace olly {

// What user space tells the producer about connections, without a system call per decision. All are
// hints: events that are already under way still arrive, and a hint that is lost costs only time.
class CapturePolicy {
 public:
  virtual ~CapturePolicy() = default;
  // Calls in `direction` that end before `position` need no event: no parser reads those bytes. The
  // call that reaches `position` makes one.
  virtual void skip_until(SocketId sock, Direction direction, std::uint64_t position) noexcept = 0;
  // Copy at most `bytes` of each call (clamped to capture.max_bytes_per_call).
  virtual void limit_copy(SocketId sock, std::uint32_t bytes) noexcept = 0;
  // No more events but the close.
  virtual void quiet(SocketId sock) noexcept = 0;
  // The connection is gone: forget what was said of it.
  virtual void forget(SocketId sock) noexcept = 0;
};

// What the producer must know of a process before it can leave it out or name its contexts.
struct ProcessVerdict {
  bool observe = true;
  std::uint32_t goid_offset = 0;  // offset of goid in runtime.g; 0 = not Go, or not known
  // Its calls' traces may be drawn before it is known whose calls they are.
  bool inject = true;
};

class ProcessControl {
 public:
  virtual ~ProcessControl() = default;
  virtual void set_process(std::uint32_t pid, const ProcessVerdict& verdict) noexcept = 0;
};

class Provider : public CapturePolicy, public ProcessControl {
 public:
  virtual std::string_view name() const noexcept = 0;  // "ebpf", "socket", "stub", "replay"
  // Attaches. On error nothing stays attached.
  virtual Result<void> start() = 0;
  // Hands on what has been captured so far, in time order, then returns. Waits up to `wait` when
  // there is nothing. Ends with EventSink::on_advance. Returns false when no more will ever come
  // (a recording's end).
  virtual bool poll(EventSink& sink, Nanos wait) noexcept = 0;
  // Detaches; what is still buffered can be polled after it. Idempotent.
  virtual void stop() noexcept = 0;
  // Whether anything is captured. Off: no OPEN and no IO; processes and CLOSE still come, and
  // positions go on, so that what moved meanwhile is known as a gap. On from the start.
  virtual void set_capture(bool /*on*/) noexcept {}
  // Programs that report through libolly.so.
  virtual std::size_t programs() const noexcept { return 0; }
  // Wakes a poll() that waits. Any thread.
  virtual void wake() noexcept = 0;
};

}  // namespace olly
