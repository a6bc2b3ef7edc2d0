// `olly trace start|stop|status` and the agent that it asks: one word and one answer over a Unix
// socket beside hook.socket_path. Only root and the agent's own user may ask (mode 0600, and the
// kernel says who it is).
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <thread>

#include "base/error.h"
#include "base/fd.h"
#include "base/local_listener.h"

namespace olly::agent {

// hook.socket_path (empty: the default for this user) with ".control" behind it.
std::string control_path(const std::string& socket_path);

class ControlServer {
 public:
  // Answers a word; no answer: there is no such word. Called on the server's thread.
  using Answer = std::function<std::string(std::string_view word)>;

  ControlServer() = default;
  ~ControlServer() { stop(); }

  // Errors: io, privilege.
  Result<void> start(const std::string& path, Answer answer);
  void stop() noexcept;

 private:
  void serve(std::stop_token stop);
  void talk(int fd);

  LocalListener listener_{"control socket"};
  UniqueFd stop_fd_;
  Answer answer_;
  std::jthread thread_;
};

// What the agent at `path` answers to `word`. Errors: io (nobody is there, or it says nothing),
// privilege (it is somebody else's).
Result<std::string> ask_agent(const std::string& path, std::string_view word);

}  // namespace olly::agent
