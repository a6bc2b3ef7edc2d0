// One TCP connection to a telemetry back end, plain or TLS, for one thread. Nothing blocks but
// connect() and wait(), and both end at a deadline or a stop. Never raises SIGPIPE.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/fd.h"
#include "export/net/resolve.h"
#include "export/stop.h"

struct ssl_st;
struct ssl_ctx_st;

namespace olly::net {

// Peer: verified against the system's certificates or those of ca_file, by name or IP address.
// TLS 1.2 and later.
struct TlsOptions {
  std::string ca_file;    // PEM; empty = the system's
  std::string cert_file;  // PEM chain of the client, with key_file
  std::string key_file;
  std::string alpn;  // the one application protocol offered: "h2", "http/1.1"
  bool alpn_required = false;
};

struct Target {
  std::string host;  // a name or an address without brackets
  std::string port;
  bool tls = false;
  TlsOptions options;
};

// Reads the files. Errors: config. For a check at start; connect() reads them again, so that
// renewed certificates are taken up.
Result<void> check_tls(const TlsOptions& options);

class Stream {
 public:
  // Errors: io, saying what failed.
  static Result<std::unique_ptr<Stream>> connect(const Target& target, Resolver& resolver,
                                                 Deadline deadline, const StopFlag& abort);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  enum class Io { done, again, closed, failed };
  struct Transfer {
    Io io = Io::done;
    std::size_t bytes = 0;
  };
  // Some bytes, or why none. `again`: wait().
  Transfer read(char* to, std::size_t size);
  Transfer write(std::string_view from);

  // Until reading may go on, or writing where `writing`. False: the deadline or `abort` was first.
  bool wait(bool writing, Deadline deadline, const StopFlag& abort) noexcept;
  // Why the last read or write failed.
  const std::string& error() const noexcept { return error_; }

 private:
  explicit Stream(UniqueFd fd);
  Result<void> start_tls(const Target& target, Deadline deadline, const StopFlag& abort);
  Io tls_result(int result, const char* what);

  UniqueFd fd_;
  std::unique_ptr<ssl_ctx_st, void (*)(ssl_ctx_st*)> context_;
  std::unique_ptr<ssl_st, void (*)(ssl_st*)> ssl_;
  bool tls_wants_write_ = false;  // a read that needs a write, or the other way around
  std::string error_;
};

}  // namespace olly::net
