#include "conntrack/unseen_tls.h"

namespace olly::conntrack {

void UnseenTls::met(SocketId sock, Nanos now) {
  if (waiting_.size() < kMaxWaiting) waiting_.push_back({sock, now});
}

// Null: there are too many; nothing is said of the rest.
UnseenTls::Program* UnseenTls::program(const std::string& exe) {
  const auto found = programs_.find(exe);
  if (found != programs_.end()) return &found->second;
  return exe.empty() || programs_.size() >= kMaxPrograms ? nullptr : &programs_[exe];
}

void UnseenTls::seen(const std::string& exe) {
  if (Program* p = program(exe)) p->seen = true;
}

bool UnseenTls::count(const std::string& exe, std::uint32_t n) {
  Program* p = program(exe);
  if (p == nullptr || p->said) return false;
  p->unseen += n;
  p->said = p->unseen >= (p->seen ? kEnoughOfSeen : kEnough);
  return p->said;
}

bool UnseenTls::ended(const std::string& exe) { return count(exe, 1); }

bool UnseenTls::lives(const std::string& exe) { return count(exe, kEnough); }

void UnseenTls::due(Nanos now, const std::function<void(SocketId)>& look) {
  while (!waiting_.empty() && now >= waiting_.front().since + kPatience) {
    look(waiting_.front().sock);
    waiting_.pop_front();
  }
}

}  // namespace olly::conntrack
