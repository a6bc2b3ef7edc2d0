#include "export/net/resolve.h"

#include <fmt/format.h>
#include <netdb.h>
#include <signal.h>

#include <algorithm>
#include <cstring>

namespace olly::net {
namespace {

using namespace std::chrono_literals;

addrinfo hints(int flags) {
  addrinfo h{};
  h.ai_family = AF_UNSPEC;
  h.ai_socktype = SOCK_STREAM;
  h.ai_flags = flags;
  return h;
}

void append(const addrinfo* list, std::vector<Address>& to) {
  for (; list != nullptr; list = list->ai_next) {
    Address a;
    if (list->ai_addrlen > sizeof a.storage) continue;
    std::memcpy(&a.storage, list->ai_addr, list->ai_addrlen);
    a.size = list->ai_addrlen;
    to.push_back(a);
  }
}

bool append_numeric(const char* host, const std::string& port, std::vector<Address>& to) {
  const addrinfo h = hints(AI_NUMERICHOST | AI_NUMERICSERV);
  addrinfo* list = nullptr;
  if (::getaddrinfo(host, port.c_str(), &h, &list) != 0) return false;
  append(list, to);
  ::freeaddrinfo(list);
  return true;
}

}  // namespace

struct Resolver::Question {
  std::string host;
  std::string port;
  addrinfo request = hints(AI_ADDRCONFIG);
  gaicb block{};
  ~Question() {
    if (block.ar_result != nullptr) ::freeaddrinfo(block.ar_result);
  }
};

Resolver::Resolver() = default;

Resolver::~Resolver() {
  // The C library still writes into a question that cannot be cancelled: its memory is given up.
  if (question_ && ::gai_error(&question_->block) == EAI_INPROGRESS &&
      ::gai_cancel(&question_->block) == EAI_NOTCANCELED) {
    [[maybe_unused]] const Question* kept = question_.release();
  }
}

Result<std::vector<Address>> Resolver::resolve(const std::string& host, const std::string& port,
                                               Deadline deadline, const StopFlag& abort) {
  std::vector<Address> found;
  if (host == "localhost") {
    append_numeric("127.0.0.1", port, found);
    append_numeric("::1", port, found);
    return found;
  }
  if (append_numeric(host.c_str(), port, found)) return found;
  if (!question_) {
    question_ = std::make_unique<Question>();
    question_->host = host;
    question_->port = port;
    question_->block.ar_name = question_->host.c_str();
    question_->block.ar_service = question_->port.c_str();
    question_->block.ar_request = &question_->request;
    gaicb* list[] = {&question_->block};
    if (const int bad = ::getaddrinfo_a(GAI_NOWAIT, list, 1, nullptr); bad != 0) {
      question_.reset();
      return fail(ErrorCode::io, fmt::format("{}: {}", host, ::gai_strerror(bad)));
    }
  }
  for (auto step = 1ms; ::gai_error(&question_->block) == EAI_INPROGRESS;
       step = std::min(step * 2, 20ms)) {
    const auto now = SteadyClock::now();
    if (now >= deadline) return fail(ErrorCode::io, fmt::format("{}: no answer to the name", host));
    if (abort.wait_until(std::min(deadline, now + step))) {
      return fail(ErrorCode::io, "stopped");
    }
  }
  const std::unique_ptr<Question> answered = std::move(question_);
  if (const int bad = ::gai_error(&answered->block); bad != 0) {
    return fail(ErrorCode::io, fmt::format("{}: {}", host, ::gai_strerror(bad)));
  }
  append(answered->block.ar_result, found);
  if (found.empty()) return fail(ErrorCode::io, fmt::format("{}: it has no address", host));
  return found;
}

}  // namespace olly::net
