#include "health/server.h"

#include <fmt/format.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <list>
#include <vector>

#include "health/client.h"

namespace olly::health {
namespace {

constexpr Nanos kIdle = kSecond;                     // between looks at the stop token
constexpr Nanos kAfterFailure = 100 * kMillisecond;  // accept() has failed: no descriptors, say
constexpr int kBacklog = 128;

// In the order of their beginning, and so of their deadlines.
using Clients = std::list<Client>;

int wait_ms(const Clients& clients, Nanos now, Nanos longest) {
  Nanos wait = longest;
  if (!clients.empty()) {
    const Nanos deadline = clients.front().deadline();
    wait = std::min(wait, deadline > now ? deadline - now : 0);
  }
  return static_cast<int>((wait + kMillisecond - 1) / kMillisecond);
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
  UniqueFd fd(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int one = 1;
  if (fd) ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  const bool bound = fd && ::bind(fd.get(), found->ai_addr, found->ai_addrlen) == 0 &&
                     ::listen(fd.get(), kBacklog) == 0;
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
  ::shutdown(listener_.get(), SHUT_RDWR);  // wakes the poll
  thread_.join();
  listener_.reset();
}

void Server::serve(std::stop_token stop) {
  Clients clients;
  std::vector<pollfd> polled;
  bool accepting = true;
  while (!stop.stop_requested()) {
    polled.assign(1, {accepting ? listener_.get() : -1, POLLIN, 0});
    for (const Client& c : clients) polled.push_back({c.fd(), c.events(), 0});
    const Nanos longest = accepting ? kIdle : kAfterFailure;
    const int ready =
        ::poll(polled.data(), polled.size(), wait_ms(clients, monotonic_now(), longest));
    if (stop.stop_requested()) return;
    accepting = true;
    const Nanos now = monotonic_now();
    std::size_t i = 1;
    for (auto it = clients.begin(); it != clients.end(); ++i) {
      const bool keep =
          it->deadline() > now && (polled[i].revents == 0 ||
                                   it->proceed(registry_, ready_.load(std::memory_order_relaxed)));
      it = keep ? std::next(it) : clients.erase(it);
    }
    if (ready <= 0 || polled[0].revents == 0) continue;
    UniqueFd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!connection) {
      accepting = errno == EAGAIN || errno == ECONNABORTED || errno == EINTR;
      continue;
    }
    if (clients.size() >= kMaxClients) clients.pop_front();
    // A fresh look at the clock: an answer may have taken long to make.
    clients.emplace_back(std::move(connection), monotonic_now() + limit_, kMaxRequest);
  }
}

}  // namespace olly::health
