#include "hook/replay/recording.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <charconv>
#include <fstream>
#include <map>
#include <sstream>

#include "base/flat_map.h"
#include "hook/replay/lexer.h"

namespace olly::replay {
namespace {

constexpr std::size_t kMaxFile = 256ull * 1024 * 1024;
constexpr std::uint64_t kMaxLength = 0x7fffffff;

bool number(std::string_view text, std::uint64_t& out, int base = 10) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, base);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

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

// Reads the file line by line; `problem_` is set at the first error.
class Parser {
 public:
  explicit Parser(const std::string& file) { out_.file = file; }

  Result<Recording> run(std::string_view text) {
    while (!text.empty()) {
      const std::size_t end = text.find('\n');
      const std::string_view line = text.substr(0, end);
      text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
      ++line_;
      auto words = words_of(line);
      if (!words) {
        bad(words.error().column, words.error().message);
      } else if (!words->empty()) {
        words_ = std::move(*words);
        next_ = 0;
        statement(line);
      }
      if (!problem_.empty()) return fail(ErrorCode::config, problem_);
    }
    return std::move(out_);
  }

 private:
  bool bad(std::size_t column, const std::string& message) {
    if (problem_.empty()) problem_ = fmt::format("{}:{}:{}: {}", out_.file, line_, column, message);
    return false;
  }
  bool bad(const Word& word, const std::string& message) { return bad(word.column, message); }
  const Word* take() { return next_ < words_.size() ? &words_[next_++] : nullptr; }
  std::size_t end_column() const {
    return words_.back().column + words_.back().key.size() + words_.back().text.size() + 1;
  }
  const Word* need(const char* what) {
    const Word* word = take();
    if (!word) bad(end_column(), fmt::format("{} is expected here", what));
    return word;
  }
  bool unsigned_value(const Word& word, std::uint64_t& out, std::uint64_t most) {
    if (number(word.text, out) && out <= most) return true;
    return bad(word, fmt::format("\"{}\" is not a number from 0 to {}", word.text, most));
  }
  bool duration_value(const Word& word, std::string_view text, Nanos& out) {
    const auto d = parse_duration(text);
    if (!d) {
      return bad(
          word,
          fmt::format("\"{}\" is not a duration; allowed: a number with ns, us, ms, s or m", text));
    }
    out = *d;
    return true;
  }
  // "+3ms" moves the clock.
  bool time_word(const Word& word, bool& was_time) {
    was_time = !word.quoted && !word.has_key && word.text.starts_with('+');
    if (!was_time) return true;
    Nanos step = 0;
    if (!duration_value(word, std::string_view(word.text).substr(1), step)) return false;
    now_ += step;
    return true;
  }

  bool statement(std::string_view line) {
    const Word& first = *take();
    if (first.quoted || first.has_key) return bad(first, "a statement begins with a name");
    if (first.text == "process") return process();
    if (first.text == "conn") return conn();
    if (first.text == "connect") return connect();
    if (first.text == "expect") return expect(line);
    if (first.text == "wait") return wait();
    if (first.text == "lost") return lost();
    if (const auto it = conn_names_.find(first.text); it != conn_names_.end()) {
      return event(it->second);
    }
    if (const auto it = process_names_.find(first.text); it != process_names_.end()) {
      return process_event(it->second);
    }
    return bad(first,
               fmt::format("\"{}\" is no statement and names no process or connection; allowed: "
                           "process, conn, connect, expect, lost, wait, or a name given before",
                           first.text));
  }

  bool new_name(const Word& word) {
    if (word.quoted || word.has_key || word.text == "process" || word.text == "conn" ||
        word.text == "expect" || word.text == "wait" || word.text == "connect" ||
        word.text == "lost") {
      return bad(word, "this cannot be a name");
    }
    if (conn_names_.contains(word.text) || process_names_.contains(word.text)) {
      return bad(word, fmt::format("\"{}\" is named already", word.text));
    }
    return true;
  }

  bool process() {
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
        return bad(*w,
                   "not a part of `process`; allowed: pid= parent= exe= service= runtime= +TIME");
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

  Step& step(Step::Kind kind, std::size_t subject) {
    Step& s = out_.steps.emplace_back();
    s.kind = kind;
    s.subject = subject;
    s.at = now_;
    s.line = line_;
    return s;
  }

  bool endpoint(const Word& word, Endpoint& e, std::string& path) {
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
    return bad(word,
               fmt::format("\"{}\" is no endpoint; allowed: 10.0.0.1:80, [::1]:80, unix:/path",
                           word.text));
  }

  // The two ends of a connection that are written without id= know each other by their endpoints.
  void derive_identity(ConnLine& c, const std::string& local, const std::string& remote) {
    const std::string here = local + ">" + remote;
    const std::string there = remote + ">" + local;
    const std::uint64_t nth = ++pairs_[here];
    c.identity.out_first = hash32(here, nth);
    c.identity.in_first = hash32(there, nth);
  }

  bool identity(const Word& word, ConnectionIdentity& id) {
    if (word.text == "none") return true;
    const std::size_t slash = word.text.find('/');
    std::uint64_t out = 0, in = 0;
    if (slash != std::string::npos &&
        number(std::string_view(word.text).substr(0, slash), out, 16) &&
        number(std::string_view(word.text).substr(slash + 1), in, 16) && out <= 0xffffffff &&
        in <= 0xffffffff) {
      id = {static_cast<std::uint32_t>(out), static_cast<std::uint32_t>(in)};
      return true;
    }
    return bad(word, "an identity is id=HEX/HEX (out/in, 32 bits each) or id=none");
  }

  // connect() before anything else is known of the connection.
  bool connect() {
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

  bool conn() {
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
        return bad(*w, "tls is not supported yet");
      } else {
        return bad(*w,
                   "not a part of `conn`; allowed: id= netns= recv_pos= send_pos= met later +TIME");
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

  Step& open_step(std::size_t conn) {
    Step& s = step(Step::Kind::open, conn);
    s.task.pid = s.task.tid = out_.processes[out_.conns[conn].process].pid;
    return s;
  }

  bool process_event(std::size_t index) {
    const Word* verb = need("exit");
    if (!verb) return false;
    if (verb->text != "exit") return bad(*verb, "a process can only: exit");
    while (const Word* w = take()) {
      bool was_time = false;
      if (!time_word(*w, was_time)) return false;
      if (!was_time) return bad(*w, "only +TIME is allowed here");
    }
    step(Step::Kind::exit, index).task.pid = out_.processes[index].pid;
    return true;
  }

  bool wait() {
    const Word* w = need("+TIME");
    bool was_time = false;
    if (!w || !time_word(*w, was_time)) return false;
    if (!was_time) return bad(*w, "only +TIME is allowed here");
    step(Step::Kind::wait, 0);
    return true;
  }

  // Events from now on, for so long, may be missing.
  bool lost() {
    Nanos duration = 0;
    bool given = false;
    while (const Word* w = take()) {
      bool was_time = false;
      if (!time_word(*w, was_time)) return false;
      if (was_time) continue;
      if (w->key != "for") return bad(*w, "allowed here: +TIME for=TIME");
      if (!duration_value(*w, w->text, duration)) return false;
      given = true;
    }
    if (!given) return bad(end_column(), "for=TIME is expected");
    step(Step::Kind::lost, 0).duration = duration;
    return true;
  }

  bool event(std::size_t conn) {
    const Word* verb = need("what happened");
    if (!verb) return false;
    if (!out_.conns[conn].declared) return bad(*verb, "the connection has no `conn` statement yet");
    Step s;
    s.subject = conn;
    s.line = line_;
    s.task.pid = s.task.tid = out_.processes[out_.conns[conn].process].pid;
    const std::string& v = verb->text;
    if (v == "recv" || v == "send") {
      s.kind = Step::Kind::io;
      s.direction = v == "recv" ? Direction::recv : Direction::send;
    } else if (v == "gap") {
      s.kind = Step::Kind::gap;
      s.task.tid = 0;
      const Word* direction = need("recv or send");
      if (!direction) return false;
      if (direction->text != "recv" && direction->text != "send") {
        return bad(*direction, "allowed here: recv, send");
      }
      s.direction = direction->text == "recv" ? Direction::recv : Direction::send;
      const Word* count = need("how many bytes");
      std::uint64_t n = 0;
      if (!count || !unsigned_value(*count, n, kMaxLength)) return false;
      s.length = static_cast<std::uint32_t>(n);
    } else if (v == "open" || v == "connect" || v == "close") {
      s.kind = v == "open"      ? Step::Kind::open
               : v == "connect" ? Step::Kind::connect
                                : Step::Kind::close;
      if (v == "connect") out_.conns[conn].connect_told = true;
    } else {
      return bad(*verb,
                 fmt::format("\"{}\" is nothing a connection can do; allowed: recv, send, gap, "
                             "connect, open, close",
                             v));
    }
    return event_parts(s);
  }

  bool event_parts(Step& s) {
    std::uint64_t length = 0;
    bool length_given = false;
    while (const Word* w = take()) {
      bool was_time = false;
      if (!time_word(*w, was_time)) return false;
      if (was_time) continue;
      std::uint64_t n = 0;
      if (w->key == "tid") {
        if (!unsigned_value(*w, n, 0xffffffff)) return false;
        s.task.tid = static_cast<std::uint32_t>(n);
      } else if (w->key == "ec") {
        std::string_view id = w->text;
        if (id.starts_with("go:")) id.remove_prefix(3);
        if (!number(id, s.task.ec)) return bad(*w, "an execution context is ec=go:NUMBER");
      } else if (w->key == "cpu" || w->key == "runq") {
        if (!duration_value(*w, w->text, w->key == "cpu" ? s.task.cpu : s.task.runq)) return false;
      } else if (w->key == "error") {
        if (!unsigned_value(*w, n, 4095)) return false;
        s.error = static_cast<std::uint32_t>(n);
      } else if (s.kind == Step::Kind::io && w->key == "length") {
        if (!unsigned_value(*w, length, kMaxLength)) return false;
        length_given = true;
      } else if (s.kind == Step::Kind::io && w->key == "offset") {
        if (!unsigned_value(*w, n, kMaxLength)) return false;
        s.payload_offset = static_cast<std::uint32_t>(n);
      } else if (s.kind == Step::Kind::io && !w->has_key && !w->quoted && flag(s, w->text)) {
        continue;
      } else if (s.kind == Step::Kind::io && !w->has_key) {
        if (!payload(*w, s.payload)) return false;
      } else {
        return bad(*w, s.kind == Step::Kind::io
                           ? "allowed here: +TIME tid= ec= cpu= runq= length= offset= nonblock eof "
                             "overlap, and a payload"
                           : "allowed here: +TIME tid= ec= cpu= runq= error=");
      }
    }
    if (s.kind == Step::Kind::io) {
      const std::uint64_t least = s.payload.size() + s.payload_offset;
      if (least > kMaxLength) return bad(1, "the payload is too long");
      if (length_given && length < least) {
        return bad(1, fmt::format("length={} is less than the payload ({} bytes)", length, least));
      }
      s.length = static_cast<std::uint32_t>(length_given ? length : least);
      if (s.length == 0 && !s.eof)
        return bad(end_column(), "a payload, length= or eof is expected");
    }
    s.at = now_;
    out_.steps.push_back(std::move(s));
    return true;
  }

  static bool flag(Step& s, std::string_view text) {
    if (text == "nonblock") return s.nonblocking = true;
    if (text == "eof") return s.eof = true;
    if (text == "overlap") return s.overlap = true;
    return false;
  }

  bool payload(const Word& w, std::string& bytes) {
    if (w.quoted) {
      bytes += w.text;
      return true;
    }
    if (w.text.starts_with("hex:")) {
      if (unhex(std::string_view(w.text).substr(4), bytes)) return true;
      return bad(w, "hex: is followed by pairs of hex digits");
    }
    if (w.text.starts_with("fill:")) {
      std::uint64_t n = 0;
      if (number(std::string_view(w.text).substr(5), n) && n <= kMaxFile) {
        bytes.append(n, 'x');
        return true;
      }
      return bad(w, "fill: is followed by a number of bytes");
    }
    if (w.text.starts_with('@')) return file_payload(w, bytes);
    return bad(
        w, fmt::format("\"{}\" is no payload; allowed: \"text\", hex:DIGITS, fill:NUMBER, @FILE",
                       w.text));
  }

  bool file_payload(const Word& w, std::string& bytes) {
    std::string path = w.text.substr(1);
    if (!path.starts_with('/')) {
      const std::size_t slash = out_.file.rfind('/');
      if (slash != std::string::npos) path = out_.file.substr(0, slash + 1) + path;
    }
    std::ifstream in(path, std::ios::binary);
    std::stringstream content;
    if (!in || !(content << in.rdbuf())) return bad(w, fmt::format("cannot read {}", path));
    if (!path.ends_with(".hex")) {
      bytes += content.str();
      return true;
    }
    return unhex(content.str(), bytes) || bad(w, fmt::format("{} is not hex digits", path));
  }

  bool expect(std::string_view line) {
    Expectation e;
    e.line = line_;
    e.text = line;
    const Word* what = need("span, no span, spans, bytes or metric");
    if (!what) return false;
    if (what->text == "no") {
      const Word* span = need("span");
      if (!span) return false;
      if (span->text != "span") return bad(*span, "only `expect no span` is allowed");
      e.kind = Expectation::Kind::no_span;
    } else if (what->text == "spans" || what->text == "metric") {
      return expect_number(e, what->text == "spans");
    } else if (what->text == "bytes") {
      return expect_bytes(e);
    } else if (what->text != "span") {
      return bad(*what, "allowed here: span, no span, spans, bytes, metric");
    }
    while (const Word* w = take()) {
      if (!w->has_key && w->text.starts_with('!')) {
        e.absent.push_back(w->text.substr(1));
      } else if (!w->has_key) {
        return bad(*w, "allowed here: KEY=VALUE, KEY=*, !KEY, as=NAME");
      } else if (w->key == "as") {
        if (!span_names_.insert({w->text, 0}).second) return bad(*w, "this name is given already");
        e.as = w->text;
      } else {
        const bool names_span =
            w->key == "trace" || (w->key == "parent" && w->text != "none" && w->text != "*");
        if (names_span && !span_names_.contains(w->text)) {
          return bad(*w, fmt::format("no expectation above says as={}", w->text));
        }
        e.values.emplace_back(w->key, w->text);
      }
    }
    out_.expectations.push_back(std::move(e));
    return true;
  }

  bool expect_number(Expectation& e, bool spans) {
    e.kind = spans ? Expectation::Kind::spans : Expectation::Kind::metric;
    if (!spans) {
      const Word* name = need("the metric's name");
      if (!name) return false;
      e.metric = name->text;
    }
    bool given = false;
    while (const Word* w = take()) {
      if (w->has_key && !spans) {
        e.values.emplace_back(w->key, w->text);
      } else if (!unsigned_value(*w, e.number, ~0ull)) {
        return false;
      } else {
        given = true;
      }
    }
    if (!given) return bad(end_column(), "a number is expected here");
    out_.expectations.push_back(std::move(e));
    return true;
  }

  bool expect_bytes(Expectation& e) {
    e.kind = Expectation::Kind::bytes;
    while (const Word* w = take()) {
      if (!w->has_key && (w->text == "recv" || w->text == "send")) {
        e.direction = w->text == "recv" ? Direction::recv : Direction::send;
        continue;
      }
      if (!w->has_key && conn_names_.contains(w->text)) {
        e.connection = w->text;
        continue;
      }
      static constexpr std::string_view kFates =
          " seen parsed skipped gap evicted unparsed pending ";
      std::uint64_t n = 0;
      if (!w->has_key || kFates.find(" " + w->key + " ") == std::string_view::npos) {
        return bad(*w,
                   "allowed here: recv, send, and seen= parsed= skipped= gap= evicted= unparsed= "
                   "pending=");
      }
      if (!unsigned_value(*w, n, ~0ull)) return false;
      e.values.emplace_back(w->key, w->text);
    }
    out_.expectations.push_back(std::move(e));
    return true;
  }

  Recording out_;
  std::string problem_;
  std::vector<Word> words_;
  std::size_t next_ = 0;
  std::uint32_t line_ = 0;
  Nanos now_ = 0;
  std::map<std::string, std::size_t> process_names_, conn_names_, span_names_;
  std::map<std::string, std::uint64_t> pairs_;
};

}  // namespace

std::optional<Nanos> parse_duration(std::string_view text) {
  static constexpr std::pair<std::string_view, std::uint64_t> kUnits[] = {
      {"ns", 1}, {"us", kMicrosecond}, {"ms", kMillisecond}, {"s", kSecond}, {"m", 60 * kSecond}};
  for (const auto& [unit, scale] : kUnits) {
    if (!text.ends_with(unit)) continue;
    std::string_view digits = text.substr(0, text.size() - unit.size());
    const std::size_t dot = digits.find('.');
    std::uint64_t whole = 0;
    if (!number(digits.substr(0, dot), whole) || whole > ~0ull / 4 / scale) continue;
    Nanos result = whole * scale;
    if (dot != std::string_view::npos) {
      std::uint64_t place = scale;
      if (dot + 1 == digits.size()) return std::nullopt;
      for (const char c : digits.substr(dot + 1)) {
        if (c < '0' || c > '9') return std::nullopt;
        place /= 10;
        result += place * static_cast<std::uint64_t>(c - '0');
      }
    }
    return result;
  }
  return std::nullopt;
}

std::string duration_text(Nanos d) {
  if (d % kSecond == 0) return fmt::format("{}s", d / kSecond);
  if (d % kMillisecond == 0) return fmt::format("{}ms", d / kMillisecond);
  if (d % kMicrosecond == 0) return fmt::format("{}us", d / kMicrosecond);
  return fmt::format("{}ns", d);
}

Result<Recording> parse(std::string_view text, const std::string& file) {
  return Parser(file).run(text);
}

Result<Recording> load(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail(ErrorCode::io, fmt::format("cannot open {}", path));
  std::stringstream content;
  content << in.rdbuf();
  if (content.str().size() > kMaxFile)
    return fail(ErrorCode::limit, fmt::format("{} is too large", path));
  return parse(content.str(), path);
}

}  // namespace olly::replay
