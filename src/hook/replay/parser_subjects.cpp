#include <arpa/inet.h>
#include <fmt/format.h>

#include "base/flat_map.h"
#include "hook/replay/parser.h"

namespace olly::replay {
namespace {

Runtime runtime_of_exe(std::string_view exe) {
  const std::string_view name = exe.substr(exe.rfind('/') + 1);
  if (name == "nginx") return Runtime::socket_loop;
  if (name == "node" || name == "nodejs") return Runtime::timer_loop;
  return Runtime::unknown;
}

std::uint32_t hash32(std::string_view text, std::uint64_t seed) {
  std::uint64_t h = seed;
  for (const char c : text) h = mix64(h ^ static_cast<std::uint8_t>(c));
  return static_cast<std::uint32_t>(h) | 1;
}

}  // namespace

bool Parser::process() {
  const Word* name = need("the process's name");
  if (!name || !new_name(*name)) return false;
  ProcessLine p;
  p.name = name->text;
  bool runtime_given = false;
  while (const Word* w = take()) {
    bool was_time = false;
    if (!time_word(*w, was_time)) return false;
    if (was_time) continue;
    std::uint64_t n = 0;
    if (w->key == "pid" || w->key == "parent") {
      if (!unsigned_value(*w, n, 0xffffffff)) return false;
      (w->key == "pid" ? p.pid : p.parent) = static_cast<std::uint32_t>(n);
    } else if (w->key == "exe") {
      p.exe = w->text;
    } else if (w->key == "service") {
      p.service = w->text;
    } else if (w->key == "runtime") {
      runtime_given = true;
      static const std::map<std::string, Runtime> kRuntimes = {
          {"unknown", Runtime::unknown},
          {"socket_loop", Runtime::socket_loop},
          {"timer_loop", Runtime::timer_loop},
          {"go", Runtime::go}};
      const auto it = kRuntimes.find(w->text);
      if (it == kRuntimes.end()) {
        return bad(*w, "unknown runtime; allowed: unknown, socket_loop, timer_loop, go");
      }
      p.runtime = it->second;
    } else {
      return bad(*w, "not a part of `process`; allowed: pid= parent= exe= service= runtime= +TIME");
    }
  }
  if (p.pid == 0) return bad(*name, "the process has no pid=");
  for (const ProcessLine& other : out_.processes) {
    if (other.pid == p.pid)
      return bad(*name, fmt::format("pid {} is {} already", p.pid, other.name));
  }
  if (!runtime_given) p.runtime = runtime_of_exe(p.exe);
  if (p.service.empty()) {
    p.service = p.exe.empty() ? p.name : p.exe.substr(p.exe.rfind('/') + 1);
  }
  process_names_[p.name] = out_.processes.size();
  out_.processes.push_back(p);
  Step& s = step(Step::Kind::exec, out_.processes.size() - 1);
  s.task.pid = s.task.tid = p.pid;
  return true;
}

Step& Parser::step(Step::Kind kind, std::size_t subject) {
  Step& s = out_.steps.emplace_back();
  s.kind = kind;
  s.subject = subject;
  s.at = now_;
  s.line = line_;
  return s;
}

bool Parser::endpoint(const Word& word, Endpoint& e, std::string& path) {
  const std::string_view text = word.text;
  if (text.starts_with("unix:")) {
    e.family = Family::unix_stream;
    if (text.size() > 5) path = text.substr(5);
    if (path.starts_with('@')) path[0] = '\0';
    return true;
  }
  const std::size_t colon = text.rfind(':');
  std::uint64_t port = 0;
  if (colon != std::string_view::npos && number(text.substr(colon + 1), port) && port <= 65535) {
    e.port = static_cast<std::uint16_t>(port);
    std::string host(text.substr(0, colon));
    e.family = Family::inet;
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
      host = host.substr(1, host.size() - 2);
      e.family = Family::inet6;
    }
    const int family = e.family == Family::inet ? AF_INET : AF_INET6;
    if (inet_pton(family, host.c_str(), e.addr.data()) == 1) return true;
  }
  return bad(word, fmt::format("\"{}\" is no endpoint; allowed: 10.0.0.1:80, [::1]:80, unix:/path",
                               word.text));
}

void Parser::derive_identity(ConnLine& c, const std::string& local, const std::string& remote) {
  const std::string here = local + ">" + remote;
  const std::string there = remote + ">" + local;
  const std::uint64_t nth = ++pairs_[here];
  c.identity.out_first = hash32(here, nth);
  c.identity.in_first = hash32(there, nth);
}

bool Parser::identity(const Word& word, ConnectionIdentity& id) {
  if (word.text == "none") return true;
  const std::size_t slash = word.text.find('/');
  std::uint64_t out = 0, in = 0;
  if (slash != std::string::npos && number(std::string_view(word.text).substr(0, slash), out, 16) &&
      number(std::string_view(word.text).substr(slash + 1), in, 16) && out <= 0xffffffff &&
      in <= 0xffffffff) {
    id = {static_cast<std::uint32_t>(out), static_cast<std::uint32_t>(in)};
    return true;
  }
  return bad(word, "an identity is id=HEX/HEX (out/in, 32 bits each) or id=none");
}

bool Parser::connect() {
  const Word* name = need("the connection's name");
  if (!name || !new_name(*name)) return false;
  const Word* process = need("the name of its process");
  if (!process) return false;
  const auto owner = process_names_.find(process->text);
  if (owner == process_names_.end()) {
    return bad(*process, fmt::format("no process is named \"{}\"", process->text));
  }
  conn_names_[name->text] = out_.conns.size();
  ConnLine& c = out_.conns.emplace_back();
  c.name = name->text;
  c.process = owner->second;
  c.role = Role::outbound;
  c.connect_told = true;
  Step s;
  s.kind = Step::Kind::connect;
  s.subject = out_.conns.size() - 1;
  s.line = line_;
  s.task.pid = s.task.tid = out_.processes[c.process].pid;
  return event_parts(s);
}

bool Parser::conn() {
  const Word* name = need("the connection's name");
  if (!name) return false;
  const auto told = conn_names_.find(name->text);
  const bool announced = told != conn_names_.end() && !out_.conns[told->second].declared;
  if (!announced && !new_name(*name)) return false;
  const Word* process = need("the name of its process");
  if (!process) return false;
  const auto owner = process_names_.find(process->text);
  if (owner == process_names_.end()) {
    return bad(*process, fmt::format("no process is named \"{}\"", process->text));
  }
  ConnLine c;
  c.name = name->text;
  c.process = owner->second;
  const Word* role = need("inbound or outbound");
  if (!role) return false;
  if (role->text == "inbound") {
    c.role = Role::inbound;
  } else if (role->text == "outbound") {
    c.role = Role::outbound;
  } else if (role->text != "unknown") {
    return bad(*role, "allowed here: inbound, outbound, unknown");
  }
  const Word* local = need("the local endpoint");
  if (!local || !endpoint(*local, c.local, c.path)) return false;
  const Word* remote = need("the remote endpoint");
  if (!remote || !endpoint(*remote, c.remote, c.path)) return false;

  bool id_given = false, later = false;
  while (const Word* w = take()) {
    bool was_time = false;
    if (!time_word(*w, was_time)) return false;
    if (was_time) continue;
    std::uint64_t n = 0;
    if (w->key == "id") {
      id_given = true;
      if (!identity(*w, c.identity)) return false;
    } else if (w->key == "netns") {
      if (!unsigned_value(*w, n, 0xffffffff)) return false;
      c.netns = static_cast<std::uint32_t>(n);
    } else if (w->key == "recv_pos" || w->key == "send_pos") {
      if (!unsigned_value(*w, n, ~0ull >> 1)) return false;
      (w->key == "recv_pos" ? c.recv_pos : c.send_pos) = n;
    } else if (!w->has_key && w->text == "met") {
      c.met = true;
    } else if (!w->has_key && w->text == "later") {
      later = true;
    } else if (!w->has_key && w->text == "tls") {
      c.tls = true;
    } else {
      return bad(
          *w, "not a part of `conn`; allowed: id= netns= recv_pos= send_pos= met later tls +TIME");
    }
  }
  if (!id_given) derive_identity(c, local->text, remote->text);
  c.declared = true;
  std::size_t index = out_.conns.size();
  if (announced) {
    index = told->second;
    if (out_.conns[index].process != c.process || c.role != Role::outbound) {
      return bad(*name, "another process, or not outbound, in its `connect` statement");
    }
    c.connect_told = true;
    out_.conns[index] = c;
  } else {
    conn_names_[c.name] = index;
    out_.conns.push_back(c);
  }
  if (!later) open_step(index);
  return true;
}

Step& Parser::open_step(std::size_t conn) {
  Step& s = step(Step::Kind::open, conn);
  s.task.pid = s.task.tid = out_.processes[out_.conns[conn].process].pid;
  return s;
}

}  // namespace olly::replay
