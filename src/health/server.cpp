#include "health/server.h"

#include <fmt/format.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <boost/beast/http/message.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cstring>

#include "base/log.h"

namespace olly::health {
namespace {

namespace http = boost::beast::http;
constexpr int kTimeoutMs = 2000;
constexpr std::size_t kMaxRequest = 16 * 1024;

// Sends all of it or gives up; a client that does not read is its own problem.
void send_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (n <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}

}  // namespace

Result<void> Server::start(const std::string& address) {
  const auto colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(host.empty() ? nullptr : host.c_str(),
                                      address.substr(colon + 1).c_str(), &hints, &found)) {
    return fail(ErrorCode::io, fmt::format("health server: {}: {}", address, gai_strerror(error)));
  }
  UniqueFd fd(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int one = 1;
  if (fd) ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  const bool bound = fd && ::bind(fd.get(), found->ai_addr, found->ai_addrlen) == 0 &&
                     ::listen(fd.get(), 16) == 0;
  const int error = errno;
  ::freeaddrinfo(found);
  if (!bound) {
    return fail(ErrorCode::io, fmt::format("health server: {}: {}", address, std::strerror(error)),
                "set health.address to a free port, or health.enabled to false");
  }
  listener_ = std::move(fd);
  thread_ = std::jthread([this](std::stop_token stop) { serve(stop); });
  return {};
}

void Server::stop() noexcept {
  if (!thread_.joinable()) return;
  thread_.request_stop();
  ::shutdown(listener_.get(), SHUT_RDWR);  // wakes accept's poll
  thread_.join();
  listener_.reset();
}

void Server::serve(std::stop_token stop) {
  while (!stop.stop_requested()) {
    pollfd ready{listener_.get(), POLLIN, 0};
    if (::poll(&ready, 1, 1000) <= 0) continue;
    const UniqueFd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (connection && !stop.stop_requested()) answer(connection.get());
  }
}

void Server::answer(int connection) {
  const timeval limit{kTimeoutMs / 1000, 0};
  ::setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  http::request_parser<http::string_body> parser;
  parser.header_limit(kMaxRequest);
  parser.body_limit(kMaxRequest);
  std::string buffer;
  while (!parser.is_header_done()) {
    char chunk[4096];
    const ssize_t n = ::recv(connection, chunk, sizeof chunk, 0);
    if (n <= 0 || buffer.size() > kMaxRequest) return;
    buffer.append(chunk, static_cast<std::size_t>(n));
    boost::system::error_code error;
    const std::size_t used = parser.put(boost::asio::buffer(buffer), error);
    if (error && error != http::error::need_more) {
      send_all(connection, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
      return;
    }
    buffer.erase(0, used);
  }
  const std::string target(parser.get().target());
  const std::string path = target.substr(0, target.find('?'));
  std::string status = "200 OK", type = "application/json", body;
  if (parser.get().method() != http::verb::get && parser.get().method() != http::verb::head) {
    status = "405 Method Not Allowed";
  } else if (path == "/health") {
    body = "{\"status\":\"healthy\",\"version\":\"" OLLY_VERSION "\"}\n";
  } else if (path == "/ready") {
    const bool ready = ready_.load(std::memory_order_relaxed);
    if (!ready) status = "503 Service Unavailable";
    body = ready ? "{\"status\":\"ready\"}\n" : "{\"status\":\"not_ready\"}\n";
  } else if (path == "/metrics") {
    type = "text/plain; version=0.0.4; charset=utf-8";
    body = prometheus_text(registry_);
  } else {
    status = "404 Not Found";
    body = "{\"paths\":[\"/health\",\"/ready\",\"/metrics\"]}\n";
  }
  std::string response = fmt::format(
      "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", status,
      type, body.size());
  if (parser.get().method() != http::verb::head) response += body;
  send_all(connection, response);
}

}  // namespace olly::health
