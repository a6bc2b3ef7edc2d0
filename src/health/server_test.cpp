#include "health/server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <vector>

namespace olly::health {
namespace {

constexpr Nanos kShort = 300 * kMillisecond;
constexpr std::size_t kLargeAnswer = 16'000'000;

UniqueFd connect_to(std::uint16_t port) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) fd.reset();
  const timeval limit{10, 0};  // a test that would hang fails instead
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  return fd;
}

bool send_text(const UniqueFd& fd, std::string_view text) {
  return ::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL) ==
         static_cast<ssize_t>(text.size());
}

// Until the server closes.
std::string read_all(const UniqueFd& fd) {
  std::string answer;
  char buffer[4096];
  for (ssize_t n = 0; (n = ::recv(fd.get(), buffer, sizeof buffer, 0)) > 0;) {
    answer.append(buffer, static_cast<std::size_t>(n));
  }
  return answer;
}

std::string ask(std::uint16_t port, std::string_view request) {
  const UniqueFd fd = connect_to(port);
  if (!fd || !send_text(fd, request)) return {};
  return read_all(fd);
}

std::string get(std::uint16_t port, const std::string& path) {
  return ask(port, "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n");
}

std::uint16_t free_port() {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof any;
  EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&any), size), 0);
  EXPECT_EQ(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&any), &size), 0);
  return ntohs(any.sin_port);
}

class HealthServer : public testing::Test {
 protected:
  void start(Nanos limit = 5 * kSecond) {
    server_ = std::make_unique<Server>(registry_, limit);
    port_ = free_port();
    ASSERT_TRUE(server_->start("127.0.0.1:" + std::to_string(port_)));
  }
  MetricRegistry registry_;
  std::unique_ptr<Server> server_;
  std::uint16_t port_ = 0;
};

TEST_F(HealthServer, AnswersItsThreePaths) {
  registry_.counter("olly_x_total", "a \\ b\nc", {{"cause", "a\"b\\c\nd"}, {"service", "\xff"}})
      .add(3);
  registry_.counter("olly_x_seconds_total", "", {}, "s", 1e6).set(2'250'000);
  start();
  EXPECT_TRUE(get(port_, "/health").starts_with("HTTP/1.1 200 OK\r\n"));
  EXPECT_TRUE(get(port_, "/ready").starts_with("HTTP/1.1 503 "));
  server_->set_ready(true);
  EXPECT_TRUE(get(port_, "/ready?a=b").starts_with("HTTP/1.1 200 "));
  server_->set_ready(false);
  EXPECT_TRUE(get(port_, "/ready").starts_with("HTTP/1.1 503 "));
  EXPECT_TRUE(get(port_, "/nothing").starts_with("HTTP/1.1 404 "));
  EXPECT_TRUE(get(port_, "/").starts_with("HTTP/1.1 404 "));
  const std::string metrics = get(port_, "/metrics");
  EXPECT_NE(metrics.find("# HELP olly_x_total a \\\\ b\\nc\n# TYPE olly_x_total counter\n"),
            std::string::npos);
  EXPECT_NE(metrics.find("olly_x_total{cause=\"a\\\"b\\\\c\\nd\",service=\"\xef\xbf\xbd\"} 3\n"),
            std::string::npos);
  EXPECT_NE(metrics.find("\nolly_x_seconds_total 2.25\n"), std::string::npos);
  const std::string head = ask(port_, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(head.starts_with("HTTP/1.1 200 "));
  EXPECT_TRUE(head.ends_with("\r\n\r\n"));
}

TEST_F(HealthServer, PortInUse) {
  start();
  Server second(registry_);
  const std::string address = "127.0.0.1:" + std::to_string(port_);
  const auto taken = second.start(address);
  ASSERT_FALSE(taken);
  EXPECT_NE(taken.error().message.find(address), std::string::npos);
  EXPECT_NE(taken.error().hint, "");
}

TEST_F(HealthServer, RefusesWhatItDoesNotKnow) {
  start();
  EXPECT_TRUE(ask(port_, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
                  .starts_with("HTTP/1.1 405 "));
  EXPECT_TRUE(ask(port_, "GET /metrics\r\n\r\n").starts_with("HTTP/1.1 400 "));
  EXPECT_TRUE(ask(port_, "\x16\x03\x01\x02\r\n\r\n").starts_with("HTTP/1.1 400 "));
  const std::string many =
      "GET / HTTP/1.1\r\nA: " + std::string(Server::kMaxRequest, 'a') + "\r\n\r\n";
  EXPECT_TRUE(ask(port_, many).starts_with("HTTP/1.1 431 "));
  EXPECT_TRUE(get(port_, "/health").starts_with("HTTP/1.1 200 "));
}

// Clients that send a byte now and then, or nothing, neither stop others nor stay.
TEST_F(HealthServer, SlowClients) {
  start(kShort);
  std::vector<UniqueFd> idle;
  for (int i = 0; i < 8; ++i) idle.push_back(connect_to(port_));
  const UniqueFd slow = connect_to(port_);
  ASSERT_TRUE(send_text(slow, "GET /health HT"));
  EXPECT_TRUE(get(port_, "/health").starts_with("HTTP/1.1 200 "));
  // A byte every few milliseconds does not move the deadline: the server ends it.
  int sent = 0;
  while (sent < 1000 && send_text(slow, "x")) {
    ++sent;
    const timespec pause{0, 5'000'000};
    ::nanosleep(&pause, nullptr);
  }
  EXPECT_LT(sent, 1000);
  for (const UniqueFd& fd : idle) EXPECT_EQ(read_all(fd), "");
}

// Whoever holds connections open takes the place of others of its kind, not of a prober.
TEST_F(HealthServer, ManyClients) {
  start(60 * kSecond);
  std::vector<UniqueFd> idle;
  for (std::size_t i = 0; i < Server::kMaxClients + 40; ++i) idle.push_back(connect_to(port_));
  EXPECT_TRUE(get(port_, "/health").starts_with("HTTP/1.1 200 "));
  EXPECT_EQ(read_all(idle.front()), "");  // the oldest went
  server_->stop();                        // at once, whoever is connected
}

// A client that asks and never reads is left at its deadline; it holds nobody up.
TEST_F(HealthServer, ClientThatDoesNotRead) {
  // More than the socket buffers of both ends take.
  std::string help;
  help.resize(kLargeAnswer, 'h');
  registry_.gauge("olly_g", help);
  start(kShort);
  const UniqueFd fd = connect_to(port_);
  ASSERT_TRUE(send_text(fd, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_TRUE(get(port_, "/health").starts_with("HTTP/1.1 200 "));
  // Its deadline passes before it begins to read: the answer has been cut off.
  const timespec past{0, 2 * kShort};
  ::nanosleep(&past, nullptr);
  EXPECT_LT(read_all(fd).size(), kLargeAnswer);
}

}  // namespace
}  // namespace olly::health
