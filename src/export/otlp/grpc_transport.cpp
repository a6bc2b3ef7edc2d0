// OTLP/gRPC: unary calls over HTTP/2 by nghttp2 (gRPC's PROTOCOL-HTTP2.md).
#include <fmt/format.h>
#include <nghttp2/nghttp2.h>

#include <charconv>
#include <cstring>

#include "export/otlp/compress.h"
#include "export/otlp/transport.h"

namespace olly::otlp {
namespace {

constexpr std::size_t kMaxMessage = 1024 * 1024;  // of a response; what is more is thrown away
constexpr std::size_t kMaxValue = 16 * 1024;      // of a header that is kept

struct Call {
  std::int32_t id = -1;
  std::string_view rest[2];  // of the request: prefix and message
  int http_status = 0;
  int grpc_status = -1;
  std::string message;  // grpc-message
  std::string details;  // grpc-status-details-bin
  std::string body;
  bool closed = false;
  std::uint32_t error = 0;
};

class GrpcTransport final : public Transport {
 public:
  explicit GrpcTransport(const OtlpTarget& target)
      : target_(target),
        connection_(target.connection()),
        session_(nullptr, &nghttp2_session_del) {}

  Answer send(const Request& request, Deadline deadline, const StopFlag& abort) override {
    idle();
    const bool reused = stream_ != nullptr;
    Call call;
    Answer answer = attempt(request, deadline, abort, call);
    // A kept connection that the server was just closing says nothing about the server.
    if (reused && !stream_ && call.http_status == 0 && answer.kind == Answer::Kind::retry &&
        SteadyClock::now() < deadline) {
      answer = attempt(request, deadline, abort, call);
    }
    return answer;
  }

  // Answers the server's pings, sees GOAWAY and the end of the connection.
  void idle() override {
    if (!stream_) return;
    if (!receive() || !transmit() || nghttp2_session_check_request_allowed(session_.get()) == 0) {
      disconnect();
    }
  }

 private:
  void disconnect() {
    session_.reset();
    stream_.reset();
    out_.clear();
    sent_ = 0;
  }

  Answer broken(const StopFlag& abort, std::string why) {
    disconnect();
    return no_answer(abort, std::move(why));
  }

  bool open_session() {
    nghttp2_session_callbacks* callbacks = nullptr;
    if (nghttp2_session_callbacks_new(&callbacks) != 0) return false;
    nghttp2_session_callbacks_set_on_header_callback(callbacks, &GrpcTransport::on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, &GrpcTransport::on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, &GrpcTransport::on_close);
    nghttp2_session* session = nullptr;
    const int made = nghttp2_session_client_new(&session, callbacks, this);
    nghttp2_session_callbacks_del(callbacks);
    if (made != 0) return false;
    session_.reset(session);
    const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                               {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, 65536}};
    return nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, 2) == 0;
  }

  bool submit(const Request& request, Deadline deadline, Call& call) {
    const std::string timeout = fmt::format("{}m", std::max(poll_timeout(deadline), 1));
    const std::string_view path =
        request.signal == Signal::traces
            ? "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
            : "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
    std::vector<nghttp2_nv> headers;
    const auto add = [&](std::string_view name, std::string_view value) {
      headers.push_back({reinterpret_cast<std::uint8_t*>(const_cast<char*>(name.data())),
                         reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())),
                         name.size(), value.size(), NGHTTP2_NV_FLAG_NONE});
    };
    add(":method", "POST");
    add(":scheme", target_.endpoint.tls ? "https" : "http");
    add(":path", path);
    add(":authority", target_.endpoint.authority);
    add("content-type", "application/grpc");
    add("te", "trailers");
    add("user-agent", "olly/" OLLY_VERSION);
    add("grpc-timeout", timeout);
    if (request.compression != config::Compression::none) {
      add("grpc-encoding", encoding_name(request.compression));
    }
    for (const auto& [name, value] : target_.headers) add(name, value);
    nghttp2_data_provider body{};
    body.source.ptr = &call;
    body.read_callback = &GrpcTransport::on_read;
    call.id = nghttp2_submit_request(session_.get(), nullptr, headers.data(), headers.size(), &body,
                                     &call);
    return call.id > 0;
  }

  Answer attempt(const Request& request, Deadline deadline, const StopFlag& abort, Call& call) {
    call = {};
    if (!stream_) {
      auto connected = net::Stream::connect(connection_, resolver_, deadline, abort);
      if (!connected) return no_answer(abort, connected.error().message);
      stream_ = std::move(*connected);
      if (!open_session()) return broken(abort, "no HTTP/2 session");
    }
    const auto size = static_cast<std::uint32_t>(request.body.size());
    const char prefix[5] = {request.compression != config::Compression::none,
                            static_cast<char>(size >> 24), static_cast<char>(size >> 16),
                            static_cast<char>(size >> 8), static_cast<char>(size)};
    call.rest[0] = {prefix, 5};
    call.rest[1] = request.body;
    if (!submit(request, deadline, call)) return broken(abort, "no HTTP/2 stream");
    for (;;) {
      const bool sent = transmit();
      const bool received = receive();
      if (call.closed) break;
      if (!sent || !received) return broken(abort, why_);
      const bool writing = sent_ < out_.size() || nghttp2_session_want_write(session_.get()) != 0;
      if (!stream_->wait(writing, deadline, abort)) return broken(abort, "no answer in time");
    }
    return judge(call, request.compression, abort);
  }

  Answer judge(const Call& call, config::Compression compression, const StopFlag& abort) {
    if (call.grpc_status < 0 && call.http_status == 0) {
      return no_answer(abort,
                       fmt::format("the call was reset: {}", nghttp2_http2_strerror(call.error)));
    }
    if (call.grpc_status < 0 && call.http_status == 200) {
      return no_answer(abort, "the answer has no grpc-status");
    }
    if (call.grpc_status < 0) {
      return judge_grpc(grpc_status_of_http(call.http_status),
                        fmt::format("HTTP {}", call.http_status), {});
    }
    Answer answer = judge_grpc(call.grpc_status, call.message, call.details);
    // gRPC's C++ core answers INTERNAL to a coding it lacks, where its compression.md wants
    // UNIMPLEMENTED; and again to every later header whose name is indexed from the one it could
    // not read, so the connection has to go.
    if (call.grpc_status == kGrpcInternal && compression == config::Compression::zstd) {
      answer.kind = Answer::Kind::encoding;
      disconnect();
    }
    if (answer.kind == Answer::Kind::accepted && call.body.size() >= 5 && call.body[0] == 0) {
      Answer parsed = answer;
      if (read_export_response(std::string_view(call.body).substr(5), parsed)) return parsed;
    }
    return answer;
  }

  bool transmit() {
    for (;;) {
      if (sent_ == out_.size()) {
        const std::uint8_t* data = nullptr;
        const ssize_t n = nghttp2_session_mem_send(session_.get(), &data);
        if (n < 0) {
          why_ = nghttp2_strerror(static_cast<int>(n));
          return false;
        }
        if (n == 0) return true;
        out_.assign(reinterpret_cast<const char*>(data), static_cast<std::size_t>(n));
        sent_ = 0;
      }
      const auto wrote = stream_->write(std::string_view(out_).substr(sent_));
      sent_ += wrote.bytes;
      if (wrote.io == net::Stream::Io::again) return true;
      if (wrote.io != net::Stream::Io::done) {
        why_ = stream_->error().empty() ? "connection closed" : stream_->error();
        return false;
      }
    }
  }

  bool receive() {
    char buffer[16384];
    // Bounded, so that a server that never stops sending cannot keep us from the deadline.
    for (int i = 0; i < 64; ++i) {
      const auto got = stream_->read(buffer, sizeof buffer);
      if (got.io == net::Stream::Io::again) return true;
      if (got.io != net::Stream::Io::done) {
        why_ = stream_->error().empty() ? "connection closed before the answer" : stream_->error();
        return false;
      }
      const ssize_t used = nghttp2_session_mem_recv(
          session_.get(), reinterpret_cast<const std::uint8_t*>(buffer), got.bytes);
      if (used < 0) {
        why_ =
            fmt::format("the answer is not HTTP/2: {}", nghttp2_strerror(static_cast<int>(used)));
        return false;
      }
    }
    return true;
  }

  static Call* call_of(nghttp2_session* session, std::int32_t id) {
    return static_cast<Call*>(nghttp2_session_get_stream_user_data(session, id));
  }

  static ssize_t on_read(nghttp2_session*, std::int32_t, std::uint8_t* to, std::size_t room,
                         std::uint32_t* flags, nghttp2_data_source* source, void*) {
    Call& call = *static_cast<Call*>(source->ptr);
    std::size_t n = 0;
    for (std::string_view& part : call.rest) {
      const std::size_t piece = std::min(part.size(), room - n);
      if (piece != 0) std::memcpy(to + n, part.data(), piece);
      part.remove_prefix(piece);
      n += piece;
    }
    if (call.rest[1].empty()) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(n);
  }

  static int on_header(nghttp2_session* session, const nghttp2_frame* frame,
                       const std::uint8_t* name_data, std::size_t name_size,
                       const std::uint8_t* value_data, std::size_t value_size, std::uint8_t,
                       void*) {
    Call* call = call_of(session, frame->hd.stream_id);
    if (call == nullptr) return 0;
    const std::string_view name(reinterpret_cast<const char*>(name_data), name_size);
    const std::string_view value(reinterpret_cast<const char*>(value_data),
                                 std::min(value_size, kMaxValue));
    const auto number = [&](int& to) {
      int parsed = 0;
      const auto [end, bad] = std::from_chars(value.data(), value.data() + value.size(), parsed);
      to = bad == std::errc{} && end == value.data() + value.size() && parsed >= 0 ? parsed : 2;
    };
    if (name == ":status") {
      number(call->http_status);
    } else if (name == "grpc-status") {
      number(call->grpc_status);
    } else if (name == "grpc-message") {
      call->message = value;
    } else if (name == "grpc-status-details-bin") {
      call->details = value;
    }
    return 0;
  }

  static int on_data(nghttp2_session* session, std::uint8_t, std::int32_t id,
                     const std::uint8_t* data, std::size_t size, void*) {
    Call* call = call_of(session, id);
    if (call == nullptr) return 0;
    const std::size_t room = kMaxMessage - call->body.size();
    call->body.append(reinterpret_cast<const char*>(data), std::min(size, room));
    return 0;
  }

  static int on_close(nghttp2_session* session, std::int32_t id, std::uint32_t error, void*) {
    if (Call* call = call_of(session, id)) {
      call->closed = true;
      call->error = error;
    }
    return 0;
  }

  OtlpTarget target_;
  net::Target connection_;
  net::Resolver resolver_;
  std::unique_ptr<net::Stream> stream_;
  std::unique_ptr<nghttp2_session, void (*)(nghttp2_session*)> session_;
  std::string out_;  // bytes of a frame that the socket did not take yet
  std::size_t sent_ = 0;
  std::string why_;
};

}  // namespace

std::unique_ptr<Transport> make_grpc_transport(const OtlpTarget& target) {
  return std::make_unique<GrpcTransport>(target);
}

}  // namespace olly::otlp
