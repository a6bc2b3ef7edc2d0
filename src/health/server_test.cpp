#include "health/server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

namespace olly::health {
namespace {

std::string get(std::uint16_t port, const std::string& path) {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) return {};
  const std::string request = "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n";
  ::send(fd.get(), request.data(), request.size(), 0);
  std::string answer;
  char buffer[4096];
  for (ssize_t n = 0; (n = ::recv(fd.get(), buffer, sizeof buffer, 0)) > 0;) {
    answer.append(buffer, static_cast<std::size_t>(n));
  }
  return answer;
}

std::uint16_t free_port() {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ::bind(fd.get(), reinterpret_cast<sockaddr*>(&any), sizeof any);
  socklen_t size = sizeof any;
  ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&any), &size);
  return ntohs(any.sin_port);
}

TEST(HealthServer, AnswersItsThreePaths) {
  MetricRegistry registry;
  registry.counter("olly_x_total", "with \"quotes\"", {{"cause", "a\"b\\c\nd"}}).add(3);
  Server server(registry);
  const std::uint16_t port = free_port();
  const std::string address = "127.0.0.1:" + std::to_string(port);
  ASSERT_TRUE(server.start(address));
  EXPECT_TRUE(get(port, "/health").starts_with("HTTP/1.1 200 OK\r\n"));
  EXPECT_TRUE(get(port, "/ready").starts_with("HTTP/1.1 503 "));
  server.set_ready(true);
  EXPECT_TRUE(get(port, "/ready").starts_with("HTTP/1.1 200 "));
  EXPECT_TRUE(get(port, "/nothing").starts_with("HTTP/1.1 404 "));
  const std::string metrics = get(port, "/metrics");
  EXPECT_NE(metrics.find("# TYPE olly_x_total counter\n"), std::string::npos);
  EXPECT_NE(metrics.find("olly_x_total{cause=\"a\\\"b\\\\c\\nd\"} 3\n"), std::string::npos);

  Server second(registry);
  const auto taken = second.start(address);
  ASSERT_FALSE(taken);
  EXPECT_NE(taken.error().message.find(address), std::string::npos);
  server.stop();
}

}  // namespace
}  // namespace olly::health
