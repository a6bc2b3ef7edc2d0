#include "agent/control.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "hook/socket/listener.h"

namespace olly::agent {
namespace {

constexpr int kPatienceMs = 1000;        // for a word: who may ask at all is trusted that far
constexpr int kAnswerPatienceMs = 5000;  // for an answer: the agent may have to finish a round
constexpr std::size_t kMaxWord = 64;
constexpr std::size_t kMaxAnswer = 1024;
constexpr std::string_view kRefused = "refused";

// What has come in `ms`; empty: nothing, or the end.
std::string receive(int fd, int ms, std::size_t most) {
  std::string text(most, '\0');
  pollfd ready{fd, POLLIN, 0};
  if (::poll(&ready, 1, ms) <= 0) return {};
  ssize_t n = ::recv(fd, text.data(), text.size(), MSG_DONTWAIT);
  // The other side has closed without reading what we said; what it said stands behind this error.
  if (n < 0 && errno == ECONNRESET) n = ::recv(fd, text.data(), text.size(), MSG_DONTWAIT);
  text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  return text;
}

bool send_all(int fd, std::string_view text) {
  return ::send(fd, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT) ==
         static_cast<ssize_t>(text.size());
}

}  // namespace

std::string control_path(const std::string& socket_path) {
  return (socket_path.empty() ? preload::default_socket_path() : socket_path) + ".control";
}

Result<void> ControlServer::start(const std::string& path, Answer answer) {
  stop_fd_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (auto done = listener_.start(path, 0600); !done) return done;
  answer_ = std::move(answer);
  thread_ = std::jthread([this](std::stop_token stop) { serve(stop); });
  return {};
}

void ControlServer::stop() noexcept {
  if (thread_.joinable()) {
    thread_.request_stop();
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t n = ::write(stop_fd_.get(), &one, sizeof one);
    thread_.join();
  }
  listener_.stop();
}

void ControlServer::serve(std::stop_token stop) {
  while (!stop.stop_requested()) {
    std::array<pollfd, 2> polled{{{listener_.fd(), POLLIN, 0}, {stop_fd_.get(), POLLIN, 0}}};
    if (::poll(polled.data(), polled.size(), -1) < 0 || stop.stop_requested()) continue;
    if (const UniqueFd client = listener_.accept()) {
      talk(client.get());
    } else {
      ::poll(&polled[1], 1, 100);  // no descriptors, say
    }
  }
}

// One after the other: those who may ask do not hold each other up for long.
void ControlServer::talk(int fd) {
  const auto peer = local_peer(fd);
  if (!peer || (peer->uid != 0 && peer->uid != ::geteuid())) {
    send_all(fd, kRefused);
    return;
  }
  const std::string word = receive(fd, kPatienceMs, kMaxWord);
  if (!word.empty()) send_all(fd, answer_(word));
}

Result<std::string> ask_agent(const std::string& path, std::string_view word) {
  const auto nobody = [&](const char* why) {
    return fail(ErrorCode::io, fmt::format("no agent answers at {}: {}", path, why),
                "an agent does with hook.on_demand: true in its configuration; --config names it");
  };
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (!is_socket_path(path)) return nobody("that is no path for a socket");
  path.copy(address.sun_path, path.size());
  const UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!fd) return nobody(std::strerror(errno));
  const auto strangers = [&] {
    return fail(ErrorCode::privilege, fmt::format("{} is somebody else's", path),
                "only root and the user who runs the agent may switch its capture");
  };
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == EACCES || errno == EPERM) return strangers();
    return nobody(std::strerror(errno));
  }
  send_all(fd.get(), word);  // who refuses does not even listen, and has answered
  std::string answer = receive(fd.get(), kAnswerPatienceMs, kMaxAnswer);
  if (answer.empty()) return nobody("it listens and says nothing");
  if (answer == kRefused) return strangers();
  return answer;
}

}  // namespace olly::agent
