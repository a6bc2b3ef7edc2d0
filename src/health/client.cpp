#include "health/client.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <boost/beast/http/message.hpp>
#include <cerrno>

#include "health/server.h"

namespace olly::health {
namespace {

namespace http = boost::beast::http;
constexpr std::string_view kJson = "application/json";

bool would_block() noexcept { return errno == EAGAIN || errno == EINTR; }

}  // namespace

short Client::events() const noexcept { return state_ == State::writing ? POLLOUT : POLLIN; }

bool Client::proceed(MetricRegistry& registry, bool ready) {
  switch (state_) {
    case State::reading:
      return read(registry, ready);
    case State::writing:
      return write();
    case State::draining:
      return drain();
  }
  return false;
}

bool Client::read(MetricRegistry& registry, bool ready) {
  char chunk[4096];
  const ssize_t n = ::recv(fd(), chunk, sizeof chunk, 0);
  if (n < 0) return would_block();
  if (n == 0) return false;
  received_ += static_cast<std::size_t>(n);
  in_.append(chunk, static_cast<std::size_t>(n));
  boost::system::error_code error;
  const std::size_t used = parser_.put(boost::asio::buffer(in_), error);
  in_.erase(0, used);
  if (error == http::error::header_limit || received_ > max_request_) {
    reply("431 Request Header Fields Too Large", kJson, "", false);
  } else if (error && error != http::error::need_more) {
    reply("400 Bad Request", kJson, "", false);
  } else if (parser_.is_header_done()) {
    answer(registry, ready);
  } else {
    return true;
  }
  state_ = State::writing;
  return write();
}

void Client::answer(MetricRegistry& registry, bool ready) {
  const std::string target(parser_.get().target());
  const std::string path = target.substr(0, target.find('?'));
  const bool head = parser_.get().method() == http::verb::head;
  if (parser_.get().method() != http::verb::get && !head) {
    reply("405 Method Not Allowed", kJson, "", false);
  } else if (path == "/health") {
    reply("200 OK", kJson, "{\"status\":\"healthy\",\"version\":\"" OLLY_VERSION "\"}\n", head);
  } else if (path == "/ready") {
    reply(ready ? "200 OK" : "503 Service Unavailable", kJson,
          ready ? "{\"status\":\"ready\"}\n" : "{\"status\":\"not_ready\"}\n", head);
  } else if (path == "/metrics") {
    reply("200 OK", "text/plain; version=0.0.4; charset=utf-8", prometheus_text(registry), head);
  } else {
    reply("404 Not Found", kJson, "{\"paths\":[\"/health\",\"/ready\",\"/metrics\"]}\n", head);
  }
}

void Client::reply(std::string_view status, std::string_view type, std::string_view body,
                   bool head) {
  out_ = fmt::format(
      "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n{}\r\n",
      status, type, body.size(), status.starts_with("405") ? "Allow: GET, HEAD\r\n" : "");
  if (!head) out_ += body;
}

bool Client::write() {
  while (sent_ < out_.size()) {
    const ssize_t n = ::send(fd(), out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
    if (n <= 0) return n < 0 && would_block();
    sent_ += static_cast<std::size_t>(n);
  }
  ::shutdown(fd(), SHUT_WR);
  state_ = State::draining;
  return drain();
}

bool Client::drain() {
  char chunk[4096];
  // A little each time: others wait, too.
  const ssize_t n = ::recv(fd(), chunk, sizeof chunk, 0);
  return n > 0 || (n < 0 && would_block());
}

}  // namespace olly::health
