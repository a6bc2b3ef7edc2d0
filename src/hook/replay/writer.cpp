#include "hook/replay/writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "hook/replay/recording.h"

namespace olly::replay {
namespace {

// A TLS connection's hellos are in its first bytes.
constexpr std::uint64_t kMaxHellos = 32768;

std::string quote(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string_view runtime_text(Runtime r) {
  switch (r) {
    case Runtime::socket_loop:
      return "socket_loop";
    case Runtime::timer_loop:
      return "timer_loop";
    case Runtime::go:
      return "go";
    case Runtime::unknown:
      break;
  }
  return "unknown";
}

std::string task_text(const TaskStamp& t) {
  std::string out = fmt::format(" tid={}", t.tid);
  if (t.ec != 0) out += fmt::format(" ec=go:{}", t.ec);
  if (t.cpu != 0) out += fmt::format(" cpu={}ns", t.cpu);
  if (t.runq != 0) out += fmt::format(" runq={}ns", t.runq);
  return out;
}

// Bytes that moved unseen. The format's lengths are 31 bits wide.
std::string gap_lines(const std::string& conn, std::string_view direction, std::uint64_t from,
                      std::uint64_t to) {
  std::string lines;
  while (from < to) {
    const std::uint64_t part = std::min<std::uint64_t>(to - from, 0x40000000);
    lines += fmt::format("{} gap {} {}\n", conn, direction, part);
    from += part;
  }
  return lines;
}

// A path with blanks cannot be written as an endpoint; what matters is that there is one.
std::string unix_text(std::string path) {
  if (!path.empty() && path[0] == '\0') path[0] = '@';
  for (char& c : path) {
    if (static_cast<unsigned char>(c) <= ' ') c = '_';
  }
  return "unix:" + path;
}

}  // namespace

Result<std::unique_ptr<Writer>> Writer::create(const std::string& path, ProcessLookup& lookup,
                                               std::uint32_t only_pid) {
  // Payloads are other people's: for the owner's eyes only.
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  std::FILE* file = fd >= 0 ? ::fdopen(fd, "w") : nullptr;
  if (!file)
    return fail(ErrorCode::io, fmt::format("cannot write {}: {}", path, std::strerror(errno)));
  std::unique_ptr<Writer> writer(new Writer(file, path, lookup, only_pid));
  writer->put("# recorded by olly; payloads may hold secrets\n");
  return writer;
}

Writer::~Writer() {
  if (file_) std::fclose(file_);
}

void Writer::put(const std::string& line) noexcept {
  if (error_ == 0 && std::fwrite(line.data(), 1, line.size(), file_) != line.size()) error_ = errno;
}

Result<void> Writer::finish() {
  if (error_ == 0 && std::fflush(file_) != 0) error_ = errno;
  if (error_ == 0) return {};
  return fail(ErrorCode::io, fmt::format("cannot write {}: {}", path_, std::strerror(error_)));
}

// Events that come with a stamp before the last one keep the order they came in.
std::string Writer::since(Nanos time) {
  if (last_ == 0) last_ = time;
  const Nanos step = time > last_ ? time - last_ : 0;
  last_ += step;
  return step == 0 ? "" : " +" + duration_text(step);
}

void Writer::process_line(std::uint32_t pid, std::uint32_t parent, Nanos time) {
  if (!processes_.insert(pid).second) return;
  const ProcessPtr p = lookup_.process(pid);
  std::string line = fmt::format("process p{} pid={}", pid, pid);
  if (parent != 0) line += fmt::format(" parent={}", parent);
  if (!p->exe.empty()) line += " exe=" + quote(p->exe);
  if (!p->service.empty()) line += " service=" + quote(p->service);
  put(line + fmt::format(" runtime={}{}\n", runtime_text(p->runtime), since(time)));
}

void Writer::on_process(const ProcessEvent& e) noexcept {
  if (!wanted(e.pid) || e.kind == ProcessEvent::Kind::fork) return;
  if (e.kind == ProcessEvent::Kind::exit) {
    if (processes_.contains(e.pid)) put(fmt::format("p{} exit{}\n", e.pid, since(e.time)));
    return;
  }
  process_line(e.pid, e.parent_pid, e.time);
}

void Writer::on_connect(const ConnectEvent& e) noexcept {
  if (!wanted(e.task.pid)) return;
  if (conns_.contains(e.sock)) return;  // a second attempt on a socket that is open: nothing new
  const auto it = connects_.find(e.sock);
  if (e.error != 0 || it != connects_.end() || connects_.size() >= 65536) return;
  process_line(e.task.pid, 0, e.time);
  const std::string name = fmt::format("c{}", next_conn_++);
  put(fmt::format("connect {} p{}{}{}\n", name, e.task.pid, since(e.time), task_text(e.task)));
  connects_[e.sock] = {name, e.task.pid};
}

void Writer::on_open(const OpenEvent& e) noexcept {
  const auto connect = connects_.find(e.sock);
  if (e.own || !wanted(e.task.pid)) return;
  process_line(e.task.pid, 0, e.time);
  Known& known = conns_[e.sock];
  known.position[0] = e.recv_pos;
  known.position[1] = e.send_pos;
  const bool told =
      connect != connects_.end() && connect->second.pid == e.task.pid && e.role == Role::outbound;
  known.name = told ? connect->second.name : fmt::format("c{}", next_conn_++);
  if (connect != connects_.end()) connects_.erase(connect);
  const bool is_unix =
      e.local.family == Family::unix_stream || e.remote.family == Family::unix_stream;
  const std::string path = unix_text(std::string(e.path));
  const std::string local =
      is_unix ? (e.role == Role::outbound ? "unix:" : path) : endpoint_text(e.local);
  const std::string remote =
      is_unix ? (e.role == Role::outbound ? path : "unix:") : endpoint_text(e.remote);
  std::string line = fmt::format(
      "conn {} p{} {} {} {}", known.name, e.task.pid,
      e.role == Role::inbound ? "inbound" : (e.role == Role::outbound ? "outbound" : "unknown"),
      local, remote);
  line += e.identity.known()
              ? fmt::format(" id={:x}/{:x}", e.identity.out_first, e.identity.in_first)
              : " id=none";
  if (e.netns != 0) line += fmt::format(" netns={}", e.netns);
  if (e.recv_pos != 0) line += fmt::format(" recv_pos={}", e.recv_pos);
  if (e.send_pos != 0) line += fmt::format(" send_pos={}", e.send_pos);
  if (e.met) line += " met";
  put(line + since(e.time) + "\n");
  ++events_;
}

void Writer::on_io(const IoEvent& e) noexcept {
  const auto it = conns_.find(e.sock);
  if (it == conns_.end() || !wanted(e.task.pid)) return;
  Known& known = it->second;
  const bool send = e.direction == Direction::send;
  std::uint64_t& position = (e.plaintext ? known.plaintext : known.position)[send ? 1 : 0];
  const char* const direction = send ? "send" : "recv";
  if (!e.plaintext) put(gap_lines(known.name, direction, position, e.position));
  std::string line =
      fmt::format("{} {}{}{}", known.name, direction, since(e.time), task_text(e.task));
  if (e.nonblocking) line += " nonblock";
  if (e.overlap) line += " overlap";
  if (e.eof) line += " eof";
  if (e.ciphertext) line += " ciphertext";
  if (e.plaintext) {
    line += position == e.position ? " plaintext" : fmt::format(" plaintext={}", e.position);
  }
  // Of ciphertext nothing is read but the hellos.
  const ByteView payload = e.ciphertext && e.position >= kMaxHellos ? ByteView{} : e.payload;
  if (e.length != payload.size()) line += fmt::format(" length={}", e.length);
  if (e.payload_offset != 0) line += fmt::format(" offset={}", e.payload_offset);
  if (!payload.empty()) {
    constexpr char kDigits[] = "0123456789abcdef";
    line += " hex:";
    line.reserve(line.size() + 2 * payload.size() + 1);
    for (const std::uint8_t b : payload) {
      line += kDigits[b >> 4];
      line += kDigits[b & 15];
    }
  }
  put(line + "\n");
  position = e.position + e.length;
  ++events_;
}

void Writer::on_tls(const TlsEvent& e) noexcept {
  const auto it = conns_.find(e.sock);
  if (it == conns_.end()) return;
  std::string line = fmt::format("{} tls{}", it->second.name, since(e.time));
  if (e.version != 0) line += fmt::format(" version={:04x}", e.version);
  if (e.cipher != 0) line += fmt::format(" cipher={:04x}", e.cipher);
  if (!e.alpn.empty()) line += " alpn=" + quote(e.alpn);
  if (!e.server_name.empty()) line += " server_name=" + quote(e.server_name);
  put(line + "\n");
  ++events_;
}

// Not before the last event: the loss is told ahead of the events of its time.
void Writer::on_loss(const LossEvent& e) noexcept {
  const std::string step = since(e.from);
  const Nanos from = last_;
  if (e.to <= from) return;
  put(fmt::format("lost{} for={}\n", step, duration_text(e.to - from)));
}

void Writer::on_close(const CloseEvent& e) noexcept {
  connects_.erase(e.sock);
  const auto it = conns_.find(e.sock);
  if (it == conns_.end()) return;
  const Known known = it->second;
  conns_.erase(it);
  if (e.positions_known) {
    put(gap_lines(known.name, "recv", known.position[0], e.recv_pos));
    put(gap_lines(known.name, "send", known.position[1], e.send_pos));
  }
  put(fmt::format("{} close{}{}\n", known.name, since(e.time),
                  e.error != 0 ? fmt::format(" error={}", e.error) : ""));
  ++events_;
}

}  // namespace olly::replay
