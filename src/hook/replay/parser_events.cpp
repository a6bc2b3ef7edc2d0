#include <fmt/format.h>

#include <fstream>
#include <sstream>

#include "hook/replay/parser.h"

namespace olly::replay {
namespace {

constexpr std::uint64_t kMaxLength = 0x7fffffff;

}  // namespace

bool Parser::process_event(std::size_t index) {
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

bool Parser::wait() {
  const Word* w = need("+TIME");
  bool was_time = false;
  if (!w || !time_word(*w, was_time)) return false;
  if (!was_time) return bad(*w, "only +TIME is allowed here");
  step(Step::Kind::wait, 0);
  return true;
}

bool Parser::lost() {
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

bool Parser::event(std::size_t conn) {
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
    s.plaintext = out_.conns[conn].tls;
  } else if (v == "tls") {
    return tls(s);
  } else if (v == "open" || v == "connect" || v == "close") {
    s.kind = v == "open"      ? Step::Kind::open
             : v == "connect" ? Step::Kind::connect
                              : Step::Kind::close;
    if (v == "connect") out_.conns[conn].connect_told = true;
  } else {
    return bad(*verb,
               fmt::format("\"{}\" is nothing a connection can do; allowed: recv, send, gap, "
                           "connect, open, tls, close",
                           v));
  }
  return event_parts(s);
}

bool Parser::tls(Step& s) {
  s.kind = Step::Kind::tls;
  while (const Word* w = take()) {
    bool was_time = false;
    if (!time_word(*w, was_time)) return false;
    if (was_time) continue;
    std::uint64_t n = 0;
    if (w->key == "version" || w->key == "cipher") {
      if (!number(w->text, n, 16) || n > 0xffff) return bad(*w, "four hex digits are expected");
      (w->key == "version" ? s.tls.version : s.tls.cipher) = static_cast<std::uint16_t>(n);
    } else if (w->key == "alpn") {
      s.tls.alpn = w->text;
    } else if (w->key == "server_name") {
      s.tls.server_name = w->text;
    } else {
      return bad(*w, "allowed here: +TIME version= cipher= alpn= server_name=");
    }
  }
  s.at = now_;
  out_.steps.push_back(std::move(s));
  return true;
}

bool Parser::event_parts(Step& s) {
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
    } else if (s.kind == Step::Kind::io && w->key == "plaintext") {
      if (!unsigned_value(*w, n, ~0ull >> 1)) return false;
      s.plaintext = true;
      s.position = n;
    } else if (s.kind == Step::Kind::io && !w->has_key && !w->quoted && flag(s, w->text)) {
      continue;
    } else if (s.kind == Step::Kind::io && !w->has_key) {
      if (!payload(*w, s.payload)) return false;
    } else {
      return bad(*w, s.kind == Step::Kind::io
                         ? "allowed here: +TIME tid= ec= cpu= runq= length= offset= nonblock eof "
                           "overlap plaintext ciphertext, and a payload"
                         : "allowed here: +TIME tid= ec= cpu= runq= error=");
    }
  }
  if (s.kind == Step::Kind::io) {
    if (out_.conns[s.subject].tls && !s.ciphertext) s.plaintext = true;
    if (s.plaintext && s.ciphertext) return bad(1, "of which layer, plaintext or ciphertext?");
    const std::uint64_t least = s.payload.size() + s.payload_offset;
    if (least > kMaxLength) return bad(1, "the payload is too long");
    if (length_given && length < least) {
      return bad(1, fmt::format("length={} is less than the payload ({} bytes)", length, least));
    }
    s.length = static_cast<std::uint32_t>(length_given ? length : least);
    if (s.length == 0 && !s.eof) return bad(end_column(), "a payload, length= or eof is expected");
  }
  s.at = now_;
  out_.steps.push_back(std::move(s));
  return true;
}

bool Parser::flag(Step& s, std::string_view text) {
  if (text == "nonblock") return s.nonblocking = true;
  if (text == "eof") return s.eof = true;
  if (text == "overlap") return s.overlap = true;
  if (text == "plaintext") return s.plaintext = true;
  if (text == "ciphertext") return s.ciphertext = true;
  return false;
}

bool Parser::payload(const Word& w, std::string& bytes) {
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
  return bad(w,
             fmt::format("\"{}\" is no payload; allowed: \"text\", hex:DIGITS, fill:NUMBER, @FILE",
                         w.text));
}

bool Parser::file_payload(const Word& w, std::string& bytes) {
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

}  // namespace olly::replay
