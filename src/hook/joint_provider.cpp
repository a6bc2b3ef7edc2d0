#include "hook/joint_provider.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>

#include "hook/socket/program.h"

namespace olly {
namespace {

// Processes of one user can look into each other anyway, and pass sockets on.
bool belongs_to(std::uint32_t pid, std::uint32_t uid) noexcept {
  std::array<char, 24> path{};
  *fmt::format_to_n(path.data(), path.size() - 1, "/proc/{}", pid).out = '\0';
  struct stat status {};
  return ::stat(path.data(), &status) == 0 && status.st_uid == uid;
}

}  // namespace

// Lets the kernel's events through, and before each one what the programs said up to then.
class JointProvider::Merge final : public EventSink {
 public:
  Merge(JointProvider& joint, EventSink& sink) noexcept : joint_(joint), sink_(sink) {}

  bool any() const noexcept { return any_; }

  void on_process(const ProcessEvent& event) noexcept override {
    up_to(event.time);
    if (event.kind == ProcessEvent::Kind::exec) joint_.socket_->exec(event.pid, event.time);
    sink_.on_process(event);
  }
  void on_connect(const ConnectEvent& event) noexcept override {
    up_to(event.time);
    sink_.on_connect(event);
  }
  void on_open(const OpenEvent& event) noexcept override {
    up_to(event.time);
    if (!event.own) joint_.known_.opened(event.sock, event.task.pid);
    sink_.on_open(event);
  }
  void on_io(const IoEvent& event) noexcept override {
    up_to(event.time);
    sink_.on_io(event);
  }
  void on_close(const CloseEvent& event) noexcept override {
    up_to(event.time);
    joint_.known_.closed(event.sock);
    sink_.on_close(event);
  }
  void on_loss(const LossEvent& event) noexcept override { sink_.on_loss(event); }
  void on_advance(Nanos now) noexcept override {
    any_ |= joint_.socket_->hand_on(now, sink_) > 0;
    sink_.on_advance(now);
  }

 private:
  void up_to(Nanos time) noexcept {
    any_ = true;
    joint_.socket_->hand_on(time, sink_);
  }

  JointProvider& joint_;
  EventSink& sink_;
  bool any_ = false;
};

Result<void> JointProvider::listen(SocketOptions options) {
  options.kernel = this;
  socket_ = std::make_unique<SocketProvider>(options);
  if (auto done = socket_->start(); !done) return done;
  if (!ebpf_->watch(socket_->fd())) {
    socket_->stop();
    return fail(ErrorCode::io, "epoll: no room for the programs' socket");
  }
  running_ = true;
  return {};
}

bool JointProvider::round(EventSink& sink) noexcept {
  Merge merge(*this, sink);
  socket_->collect(sink, monotonic_now());
  ebpf_->poll(merge, 0);
  socket_->settle(sink);
  return merge.any();
}

bool JointProvider::poll(EventSink& sink, Nanos wait) noexcept {
  bool any = round(sink);
  if (!any && running_) {
    if (wait > 0) {
      const Nanos now = monotonic_now();
      if (const Nanos most = socket_->arm(now, wait); most > 0) ebpf_->pause(most);
      socket_->disarm(now);
    }
    any = round(sink);
  }
  return any || running_;
}

void JointProvider::stop() noexcept {
  if (!running_) return;
  running_ = false;
  socket_->stop();
  ebpf_->stop();
}

void JointProvider::set_capture(bool on) noexcept {
  ebpf_->set_capture(on);
  socket_->set_capture(on);
}

// A socket that was closed and opened again has another id, so an entry is of this one.
bool JointProvider::claim(SocketId cookie, preload::Program& program) noexcept {
  preload::KnownSockets::Entry* known = known_.find(cookie);
  if (known == nullptr || known->quiet) return false;
  if (known->pid != program.pid && !belongs_to(known->pid, program.uid)) return false;
  if (!known->claimed) {
    const olly_policy said = ebpf_->policy(cookie);
    program.policy.limit_copy(cookie, said.max_copy);
    for (const Direction d : {Direction::recv, Direction::send}) {
      const std::uint64_t position = said.skip_until[static_cast<std::size_t>(d)];
      if (position > 0) program.policy.skip_until(cookie, d, position);
    }
    ebpf_->quiet(cookie);
    ebpf_->quiet(plaintext_layer(cookie));
    known->claimed = true;
  }
  return true;
}

void JointProvider::unclaim(SocketId cookie) noexcept {
  preload::KnownSockets::Entry* known = known_.find(cookie);
  if (known == nullptr || !known->claimed) return;
  known->claimed = false;
  if (!known->quiet) ebpf_->forget(cookie);
  ebpf_->forget(plaintext_layer(cookie));
}

// Both layers of a TLS connection have one speaker.
CapturePolicy& JointProvider::speaker(SocketId sock) noexcept {
  const preload::KnownSockets::Entry* known = known_.find(sock);
  if (known == nullptr) known = known_.find(plaintext_layer(sock));
  if (known != nullptr && known->claimed) return *socket_;
  return *ebpf_;
}

void JointProvider::skip_until(SocketId sock, Direction direction,
                               std::uint64_t position) noexcept {
  speaker(sock).skip_until(sock, direction, position);
}

void JointProvider::limit_copy(SocketId sock, std::uint32_t bytes) noexcept {
  speaker(sock).limit_copy(sock, bytes);
}

void JointProvider::quiet(SocketId sock) noexcept {
  if (preload::KnownSockets::Entry* known = known_.find(sock)) known->quiet = true;
  ebpf_->quiet(sock);
  socket_->quiet(sock);
}

void JointProvider::forget(SocketId sock) noexcept {
  ebpf_->forget(sock);
  socket_->forget(sock);
}

void JointProvider::set_process(std::uint32_t pid, const ProcessVerdict& verdict) noexcept {
  ebpf_->set_process(pid, verdict);
  socket_->set_process(pid, verdict);
}

}  // namespace olly
