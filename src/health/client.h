// One connection of the health server: a request is read, answered, and the connection closed.
// Nothing here blocks or throws.
#pragma once

#include <atomic>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <string>

#include "base/fd.h"
#include "base/time.h"
#include "metrics/registry.h"

namespace olly::health {

class Client {
 public:
  // `connection` does not block.
  Client(UniqueFd connection, Nanos deadline, std::size_t max_request)
      : connection_(std::move(connection)), deadline_(deadline), max_request_(max_request) {
    parser_.header_limit(static_cast<std::uint32_t>(max_request));
    parser_.body_limit(max_request);
  }

  int fd() const noexcept { return connection_.get(); }
  Nanos deadline() const noexcept { return deadline_; }
  // What poll() should wait for.
  short events() const noexcept;
  // After poll(): false when the connection is to be closed.
  bool proceed(MetricRegistry& registry, bool ready);

 private:
  enum class State { reading, writing, draining };
  bool read(MetricRegistry& registry, bool ready);
  bool write();
  // The client is told that no more comes; what it still sends is read, since closing a socket with
  // unread bytes would take the answer back.
  bool drain();
  void answer(MetricRegistry& registry, bool ready);
  void reply(std::string_view status, std::string_view type, std::string_view body, bool head);

  UniqueFd connection_;
  Nanos deadline_;
  std::size_t max_request_;
  std::size_t received_ = 0;
  State state_ = State::reading;
  boost::beast::http::request_parser<boost::beast::http::string_body> parser_;
  std::string in_, out_;
  std::size_t sent_ = 0;
};

}  // namespace olly::health
