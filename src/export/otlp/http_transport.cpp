// OTLP/HTTP over HTTP/1.1 with keep-alive. Responses are parsed by Boost.Beast's incremental parser
// (no input or output of its own; it is in the tree already for the health server), with limits.
#include <fmt/format.h>
#include <time.h>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <optional>

#include "export/otlp/compress.h"
#include "export/otlp/transport.h"

namespace olly::otlp {
namespace {

namespace http = boost::beast::http;
using Parser = http::response_parser<http::string_body>;

constexpr std::size_t kMaxHead = 64 * 1024;
constexpr std::size_t kMaxBody = 1024 * 1024;
constexpr std::size_t kMaxUnparsed = 128 * 1024;
constexpr int kMaxInterim = 8;  // 1xx before the answer

// One response, fed as it arrives.
class Response {
 public:
  enum class State { more, done, broken };
  Response() { fresh(); }
  State feed(std::string_view bytes) {
    in_.append(bytes);
    while (!in_.empty() && !parser_->is_done()) {
      boost::system::error_code error;
      const std::size_t used = parser_->put(boost::asio::buffer(in_), error);
      in_.erase(0, used);
      if (error == http::error::need_more) {
        if (in_.size() > kMaxUnparsed) return State::broken;
        if (used == 0) break;
      } else if (error) {
        return State::broken;
      }
      if (parser_->is_done() && parser_->get().result_int() / 100 == 1) {
        if (++interim_ > kMaxInterim) return State::broken;
        fresh();
      }
    }
    return parser_->is_done() ? State::done : State::more;
  }
  // The server has closed.
  State finish() {
    boost::system::error_code error;
    if (parser_->is_header_done()) parser_->put_eof(error);
    return parser_->is_done() ? State::done : State::broken;
  }
  // 0 before the head is complete.
  int status() const {
    return parser_->is_header_done() ? static_cast<int>(parser_->get().result_int()) : 0;
  }
  std::string_view body() const { return parser_->get().body(); }
  std::string_view retry_after() const {
    const auto value = parser_->get()[http::field::retry_after];
    return {value.data(), value.size()};
  }
  bool keep_alive() const { return parser_->is_done() && parser_->keep_alive() && in_.empty(); }
  bool started() const { return started_ || !in_.empty() || parser_->got_some(); }

 private:
  void fresh() {
    parser_.emplace();
    parser_->header_limit(kMaxHead);
    parser_->body_limit(kMaxBody);
    parser_->eager(true);
    if (interim_ != 0) started_ = true;
  }
  std::optional<Parser> parser_;
  std::string in_;
  int interim_ = 0;
  bool started_ = false;
};

class HttpTransport final : public Transport {
 public:
  explicit HttpTransport(const OtlpTarget& target)
      : target_(target), connection_(target.connection()) {}

  Answer send(const Request& request, Deadline deadline, const StopFlag& abort) override {
    idle();
    const bool reused = stream_ != nullptr;
    bool answered = false;
    Answer answer = attempt(request, deadline, abort, answered);
    // A kept connection that the server was just closing says nothing about the server.
    if (reused && !stream_ && !answered && answer.kind == Answer::Kind::retry &&
        SteadyClock::now() < deadline) {
      answer = attempt(request, deadline, abort, answered);
    }
    return answer;
  }

  void idle() override {
    if (!stream_) return;
    char byte = 0;
    if (stream_->read(&byte, 1).io != net::Stream::Io::again) stream_.reset();
  }

 private:
  std::string head(const Request& request) const {
    std::string out =
        fmt::format("POST {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: olly/" OLLY_VERSION
                    "\r\nContent-Type: application/x-protobuf\r\nContent-Length: {}\r\n",
                    request.path, target_.endpoint.authority, request.body.size());
    if (request.compression != config::Compression::none) {
      out += fmt::format("Content-Encoding: {}\r\n", encoding_name(request.compression));
    }
    for (const auto& [name, value] : target_.headers) out += fmt::format("{}: {}\r\n", name, value);
    return out + "\r\n";
  }

  Answer broken(const StopFlag& abort, std::string why) {
    stream_.reset();
    return no_answer(abort, std::move(why));
  }

  Answer attempt(const Request& request, Deadline deadline, const StopFlag& abort, bool& answered) {
    if (!stream_) {
      auto connected = net::Stream::connect(connection_, resolver_, deadline, abort);
      if (!connected) return no_answer(abort, connected.error().message);
      stream_ = std::move(*connected);
    }
    const std::string text = head(request);
    std::string_view parts[] = {text, request.body};
    Response response;
    std::string write_error;
    for (;;) {
      bool writing = false;
      for (std::string_view& part : parts) {
        while (!part.empty() && !writing && write_error.empty()) {
          const auto sent = stream_->write(part);
          part.remove_prefix(sent.bytes);
          if (sent.io == net::Stream::Io::again) writing = true;
          // The answer may have come before the end of the request: it is read all the same.
          if (sent.io == net::Stream::Io::failed) write_error = stream_->error();
        }
      }
      char buffer[16384];
      auto got = stream_->read(buffer, sizeof buffer);
      Response::State state = Response::State::more;
      for (; got.io == net::Stream::Io::done && state == Response::State::more;
           got = state == Response::State::more ? stream_->read(buffer, sizeof buffer) : got) {
        state = response.feed({buffer, got.bytes});
      }
      const bool ended = got.io == net::Stream::Io::closed || got.io == net::Stream::Io::failed;
      if (state == Response::State::more && ended) state = response.finish();
      answered = answered || response.started();
      if (state != Response::State::more) return judge(request, response, state, ended, abort);
      if (!stream_->wait(writing, deadline, abort)) return broken(abort, "no answer in time");
    }
  }

  Answer judge(const Request& request, const Response& response, Response::State state, bool ended,
               const StopFlag& abort) {
    const int status = response.status();
    if (status == 0) {
      return broken(abort, ended ? stream_->error().empty() ? "connection closed before the answer"
                                                            : stream_->error()
                                 : "the answer is not HTTP");
    }
    Answer answer = judge_http(status, state == Response::State::done ? response.body() : "",
                               response.retry_after(), ::time(nullptr));
    if (answer.kind == Answer::Kind::refused && status == 400 &&
        request.compression == config::Compression::zstd) {
      answer.kind = Answer::Kind::encoding;  // what some servers answer to a coding they lack
    }
    if (state != Response::State::done || !response.keep_alive()) stream_.reset();
    return answer;
  }

  OtlpTarget target_;
  net::Target connection_;
  net::Resolver resolver_;
  std::unique_ptr<net::Stream> stream_;
};

}  // namespace

std::unique_ptr<Transport> make_http_transport(const OtlpTarget& target) {
  return std::make_unique<HttpTransport>(target);
}

}  // namespace olly::otlp
