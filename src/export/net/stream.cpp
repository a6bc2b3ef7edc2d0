#include "export/net/stream.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace olly::net {
namespace {

using Context = std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)>;

// The most telling of the queued errors: the last one says what failed.
std::string tls_error() {
  unsigned long last = 0;
  for (unsigned long code = 0; (code = ERR_get_error()) != 0;) last = code;
  if (last == 0) return "unknown TLS error";
  if (const char* reason = ERR_reason_error_string(last)) return reason;
  return fmt::format("TLS error {:#x}", last);
}

// A socket BIO that sends with MSG_NOSIGNAL; OpenSSL's own one raises SIGPIPE. The socket's number
// is the BIO's data, the BIO does not own it.
int bio_fd(BIO* bio) {
  return static_cast<int>(reinterpret_cast<std::intptr_t>(BIO_get_data(bio)));
}

int bio_write(BIO* bio, const char* from, int size) {
  BIO_clear_retry_flags(bio);
  const ssize_t n = ::send(bio_fd(bio), from, static_cast<std::size_t>(size), MSG_NOSIGNAL);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_write(bio);
  return static_cast<int>(n);
}

int bio_read(BIO* bio, char* to, int size) {
  BIO_clear_retry_flags(bio);
  const ssize_t n = ::recv(bio_fd(bio), to, static_cast<std::size_t>(size), 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_read(bio);
  return static_cast<int>(n);
}

long bio_ctrl(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

const BIO_METHOD* socket_bio() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "olly socket");
    if (m != nullptr) {
      BIO_meth_set_write(m, bio_write);
      BIO_meth_set_read(m, bio_read);
      BIO_meth_set_ctrl(m, bio_ctrl);
    }
    return m;
  }();
  return method;
}

Result<Context> make_context(const TlsOptions& options) {
  ERR_clear_error();
  Context context(SSL_CTX_new(TLS_client_method()), &SSL_CTX_free);
  if (!context) return fail(ErrorCode::io, fmt::format("TLS: {}", tls_error()));
  SSL_CTX* c = context.get();
  SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION);
  SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_verify(c, SSL_VERIFY_PEER, nullptr);
  if (options.ca_file.empty()) {
    SSL_CTX_set_default_verify_paths(c);
  } else if (SSL_CTX_load_verify_file(c, options.ca_file.c_str()) != 1) {
    return fail(ErrorCode::config,
                fmt::format("exporters.otlp.tls.ca_file: {}: {}", options.ca_file, tls_error()));
  }
  if (!options.cert_file.empty()) {
    if (SSL_CTX_use_certificate_chain_file(c, options.cert_file.c_str()) != 1) {
      return fail(ErrorCode::config, fmt::format("exporters.otlp.tls.cert_file: {}: {}",
                                                 options.cert_file, tls_error()));
    }
    if (SSL_CTX_use_PrivateKey_file(c, options.key_file.c_str(), SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(c) != 1) {
      return fail(ErrorCode::config, fmt::format("exporters.otlp.tls.key_file: {}: {}",
                                                 options.key_file, tls_error()));
    }
  }
  if (!options.alpn.empty()) {
    std::string list(1, static_cast<char>(options.alpn.size()));
    list += options.alpn;
    SSL_CTX_set_alpn_protos(c, reinterpret_cast<const unsigned char*>(list.data()),
                            static_cast<unsigned>(list.size()));
  }
  return context;
}

bool is_ip_address(const std::string& host) {
  in6_addr buffer;
  return ::inet_pton(AF_INET, host.c_str(), &buffer) == 1 ||
         ::inet_pton(AF_INET6, host.c_str(), &buffer) == 1;
}

// False: the deadline or `abort` was first.
bool wait_for(int fd, short events, Deadline deadline, const StopFlag& abort) noexcept {
  for (;;) {
    if (abort.is_set()) return false;
    const int timeout = poll_timeout(deadline);
    if (timeout == 0) return false;
    pollfd p[2] = {{fd, events, 0}, {abort.fd(), POLLIN, 0}};
    ::poll(p, 2, abort.fd() >= 0 ? timeout : std::min(timeout, 100));
    if (p[0].revents != 0) return true;
  }
}

Result<UniqueFd> connect_to(const Address& address, Deadline deadline, const StopFlag& abort) {
  UniqueFd fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return fail(ErrorCode::io, std::strerror(errno));
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.size) == 0) {
    return fd;
  }
  if (errno != EINPROGRESS) return fail(ErrorCode::io, std::strerror(errno));
  if (!wait_for(fd.get(), POLLOUT, deadline, abort)) {
    return fail(ErrorCode::io, "no connection in time");
  }
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) return fail(ErrorCode::io, std::strerror(error));
  return fd;
}

}  // namespace

Result<void> check_tls(const TlsOptions& options) {
  auto context = make_context(options);
  if (!context) return std::unexpected(context.error());
  return {};
}

Stream::Stream(UniqueFd fd)
    : fd_(std::move(fd)), context_(nullptr, &SSL_CTX_free), ssl_(nullptr, &SSL_free) {}

Stream::~Stream() {
  if (ssl_ == nullptr) return;
  ERR_clear_error();
  SSL_shutdown(ssl_.get());  // one try to say goodbye; nobody waits for the answer
}

Result<std::unique_ptr<Stream>> Stream::connect(const Target& target, Resolver& resolver,
                                                Deadline deadline, const StopFlag& abort) {
  const auto addresses = resolver.resolve(target.host, target.port, deadline, abort);
  if (!addresses) return std::unexpected(addresses.error());
  Error error{ErrorCode::io, "no address", {}};
  for (std::size_t i = 0; i < addresses->size(); ++i) {
    // A black hole among several addresses leaves time for the others.
    const auto now = SteadyClock::now();
    const auto share = now + (deadline - now) / static_cast<int>(addresses->size() - i);
    auto fd = connect_to((*addresses)[i], share, abort);
    if (!fd) {
      error = fd.error();
      continue;
    }
    std::unique_ptr<Stream> stream(new Stream(std::move(*fd)));
    if (target.tls) {
      if (auto done = stream->start_tls(target, deadline, abort); !done) {
        return std::unexpected(done.error());
      }
    }
    return stream;
  }
  return std::unexpected(error);
}

Result<void> Stream::start_tls(const Target& target, Deadline deadline, const StopFlag& abort) {
  auto context = make_context(target.options);
  if (!context) return std::unexpected(context.error());
  context_ = std::move(*context);
  ssl_.reset(SSL_new(context_.get()));
  const BIO_METHOD* method = socket_bio();
  BIO* bio = method != nullptr ? BIO_new(method) : nullptr;
  if (ssl_ == nullptr || bio == nullptr) {
    BIO_free(bio);
    ssl_.reset();
    return fail(ErrorCode::io, "TLS: out of memory");
  }
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<std::intptr_t>(fd_.get())));
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_.get(), bio, bio);
  if (is_ip_address(target.host)) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_.get()), target.host.c_str());
  } else {
    SSL_set1_host(ssl_.get(), target.host.c_str());
    SSL_set_tlsext_host_name(ssl_.get(), target.host.c_str());
  }
  for (;;) {
    ERR_clear_error();
    errno = 0;
    const int result = SSL_connect(ssl_.get());
    if (result == 1) break;
    const int why = SSL_get_error(ssl_.get(), result);
    if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
      const long verify = SSL_get_verify_result(ssl_.get());
      if (verify != X509_V_OK) {
        return fail(ErrorCode::io, fmt::format("TLS: the server's certificate: {}",
                                               X509_verify_cert_error_string(verify)));
      }
      return fail(ErrorCode::io,
                  fmt::format("TLS handshake: {}", why == SSL_ERROR_SYSCALL && errno != 0
                                                       ? std::strerror(errno)
                                                   : why == SSL_ERROR_SYSCALL ? "connection closed"
                                                                              : tls_error()));
    }
    const short events = why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
    if (!wait_for(fd_.get(), events, deadline, abort)) {
      return fail(ErrorCode::io, "TLS handshake: not done in time");
    }
  }
  const unsigned char* chosen = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl_.get(), &chosen, &size);
  if (target.options.alpn_required &&
      std::string_view(reinterpret_cast<const char*>(chosen), size) != target.options.alpn) {
    return fail(ErrorCode::io,
                fmt::format("TLS: the server does not speak {} here", target.options.alpn));
  }
  return {};
}

Stream::Io Stream::tls_result(int result, const char* what) {
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      return Io::again;
    case SSL_ERROR_WANT_WRITE:
      tls_wants_write_ = true;
      return Io::again;
    case SSL_ERROR_ZERO_RETURN:
      return Io::closed;
    case SSL_ERROR_SYSCALL:
      error_ = fmt::format("{}: {}", what, errno != 0 ? std::strerror(errno) : "connection closed");
      return Io::failed;
    default:
      // Also a server that closes without saying so (unexpected EOF), and one that refuses our
      // certificate, which under TLS 1.3 shows only here.
      error_ = fmt::format("{}: {}", what, tls_error());
      return Io::failed;
  }
}

Stream::Transfer Stream::read(char* to, std::size_t size) {
  errno = 0;
  if (ssl_ != nullptr) {
    ERR_clear_error();
    std::size_t n = 0;
    const int result = SSL_read_ex(ssl_.get(), to, size, &n);
    if (result == 1) return {Io::done, n};
    return {tls_result(result, "read"), 0};
  }
  const ssize_t n = ::recv(fd_.get(), to, size, 0);
  if (n > 0) return {Io::done, static_cast<std::size_t>(n)};
  if (n == 0) return {Io::closed, 0};
  if (errno == EAGAIN || errno == EINTR) return {Io::again, 0};
  error_ = fmt::format("read: {}", std::strerror(errno));
  return {Io::failed, 0};
}

Stream::Transfer Stream::write(std::string_view from) {
  if (from.empty()) return {};
  errno = 0;
  if (ssl_ != nullptr) {
    ERR_clear_error();
    std::size_t n = 0;
    const int result = SSL_write_ex(ssl_.get(), from.data(), from.size(), &n);
    if (result == 1) return {Io::done, n};
    return {tls_result(result, "write"), 0};
  }
  const ssize_t n = ::send(fd_.get(), from.data(), from.size(), MSG_NOSIGNAL);
  if (n >= 0) return {Io::done, static_cast<std::size_t>(n)};
  if (errno == EAGAIN || errno == EINTR) return {Io::again, 0};
  error_ = fmt::format("write: {}", std::strerror(errno));
  return {Io::failed, 0};
}

bool Stream::wait(bool writing, Deadline deadline, const StopFlag& abort) noexcept {
  const bool out = writing || std::exchange(tls_wants_write_, false);
  return wait_for(fd_.get(), static_cast<short>(POLLIN | (out ? POLLOUT : 0)), deadline, abort);
}

}  // namespace olly::net
