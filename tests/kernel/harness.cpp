#include "harness.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <sstream>

#include "hook/ebpf/kernel_abi.h"

namespace olly::kernel_test {
namespace {

constexpr std::uint32_t kCopied = OLLY_MAX_COPY;  // of a connection nobody has spoken about
constexpr Nanos kPatience = 120 * kSecond;

Options& mutable_options() {
  static Options options;
  return options;
}

std::string from_hex(std::string_view hex) {
  std::string out;
  auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    out.push_back(static_cast<char>(digit(hex[i]) * 16 + digit(hex[i + 1])));
  return out;
}

TruthMove parse_move(std::istringstream& in) {
  TruthMove move;
  std::string direction, hex;
  in >> move.name >> direction >> move.position >> move.length >> move.flags >> move.from >>
      move.until >> move.pid >> move.tid >> hex;
  move.direction = direction == "send" ? Direction::send : Direction::recv;
  if (hex != "-") move.bytes = from_hex(hex);
  return move;
}

}  // namespace

const Options& options() { return mutable_options(); }
void set_options(Options options) { mutable_options() = std::move(options); }

// --- Recorder
// ---------------------------------------------------------------------------------------

void Recorder::stamp(Nanos time) noexcept {
  if (time < last_ || time < advanced) ++disorder;
  last_ = std::max(last_, time);
  ++order_;
}

void Recorder::on_process(const ProcessEvent& event) noexcept {
  stamp(event.time);
  if (event.kind == ProcessEvent::Kind::fork && pids_.contains(event.parent_pid))
    pids_.insert(event.pid);
  if (!pids_.contains(event.pid)) return;
  processes.push_back(event);
  processes.back().comm = processes.back().filename = {};
}

void Recorder::on_connect(const ConnectEvent& event) noexcept {
  stamp(event.time);
  if (pids_.contains(event.task.pid)) connects.push_back(event);
}

void Recorder::on_open(const OpenEvent& event) noexcept {
  stamp(event.time);
  if (event.own) {
    own.push_back(event);
    own.back().path = {};
    return;
  }
  if (!pids_.contains(event.task.pid)) return;
  socks_.insert(event.sock);
  opens.push_back({event, std::string(event.path), order_});
  opens.back().event.path = {};
}

void Recorder::on_io(const IoEvent& event) noexcept {
  stamp(event.time);
  if (!pids_.contains(event.task.pid)) return;
  ios.push_back({event, {}, order_});
  if (keep_payload)
    ios.back().payload.assign(reinterpret_cast<const char*>(event.payload.data()),
                              event.payload.size());
  ios.back().event.payload = {};
}

void Recorder::on_close(const CloseEvent& event) noexcept {
  stamp(event.time);
  if (socks_.contains(event.sock)) closes.push_back({event, order_});
}

void Recorder::on_advance(Nanos now) noexcept { advanced = std::max(advanced, now); }

// --- truth
// ------------------------------------------------------------------------------------------

Truth parse_truth(const std::string& text) {
  Truth truth;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream in(line);
    std::string what, name;
    TruthWindow window;
    in >> what;
    if (what == "io") {
      truth.moves.push_back(parse_move(in));
    } else if (what == "sock") {
      in >> name;
      TruthSocket& socket = truth.sockets[name];
      in >> socket.family >> socket.role >> socket.local >> socket.remote;
    } else if (what == "opened") {
      in >> window.name >> window.from >> window.until >> window.pid >> window.tid;
      truth.opened.push_back(window);
    } else if (what == "connect") {
      in >> window.name >> window.a >> window.from >> window.until >> window.pid >> window.tid;
      truth.connects.push_back(window);
    } else if (what == "none") {
      in >> window.from >> window.until >> window.tid;
      truth.nones.push_back(window);
    } else if (what == "close") {
      in >> window.name >> window.a >> window.b >> window.from >> window.until;
      truth.closes.push_back(window);
    } else if (what == "pair") {
      std::string other;
      in >> name >> other;
      truth.pairs.emplace_back(name, other);
    } else if (what == "wire") {
      in >> name;
      truth.wire.push_back(name);
    } else if (what == "pause") {
      in >> name;
      truth.pauses.push_back(name);
    } else if (what == "skip") {
      truth.skip = line.substr(5);
    } else if (what != "done") {
      ADD_FAILURE() << "unknown truth: " << line.substr(0, 100);
    }
  }
  return truth;
}

// --- Program
// --------------------------------------------------------------------------------------------

Program::Program(std::string program, std::vector<std::string> arguments, bool one_cpu) {
  int input[2], gate[2];
  output_ = memfd_create("truth", MFD_CLOEXEC);
  if (output_ < 0 || pipe2(input, O_CLOEXEC) || pipe2(gate, O_CLOEXEC)) {
    ADD_FAILURE() << "harness: " << std::strerror(errno);
    return;
  }
  // O_APPEND keeps lines of several writers whole.
  const std::string self = "/proc/self/fd/" + std::to_string(output_);
  const int append = open(self.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  const std::string path = options().programs + "/" + program;
  std::vector<char*> argv{program.data()};
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_ = fork();
  if (pid_ == 0) {
    char byte;
    if (one_cpu) {
      cpu_set_t cpus;
      CPU_ZERO(&cpus);
      CPU_SET(static_cast<unsigned>(std::max(sched_getcpu(), 0)), &cpus);
      sched_setaffinity(0, sizeof cpus, &cpus);
    }
    if (read(gate[0], &byte, 1) != 1) _exit(126);
    dup2(input[0], 0);
    dup2(append, 1);
    execv(path.c_str(), argv.data());
    _exit(127);
  }
  close(append);
  close(input[0]);
  close(gate[0]);
  input_ = input[1];
  gate_ = gate[1];
}

Program::~Program() {
  if (pid_ > 0 && !reaped_) {
    kill(pid_, SIGKILL);
    waitpid(pid_, &status_, 0);
  }
  for (int fd : {output_, input_, gate_})
    if (fd >= 0) close(fd);
}

void Program::begin() { EXPECT_EQ(write(gate_, "g", 1), 1); }
void Program::resume() { EXPECT_EQ(write(input_, "r", 1), 1); }

std::string Program::output() const {
  struct stat info {};
  fstat(output_, &info);
  std::string text(static_cast<std::size_t>(info.st_size), '\0');
  std::size_t have = 0;
  while (have < text.size()) {
    const ssize_t got =
        pread(output_, text.data() + have, text.size() - have, static_cast<off_t>(have));
    if (got <= 0) break;
    have += static_cast<std::size_t>(got);
  }
  text.resize(have);
  return text;
}

bool Program::ended() {
  if (!reaped_) reaped_ = waitpid(pid_, &status_, WNOHANG) == pid_;
  return reaped_;
}

bool Program::until_pause(Provider* provider, EventSink* sink, std::size_t count) {
  const Nanos limit = monotonic_now() + kPatience;
  while (monotonic_now() < limit) {
    if (provider)
      provider->poll(*sink, kMillisecond);
    else
      usleep(1000);
    const std::string text = output();
    std::size_t found = 0;
    for (std::size_t at = 0; (at = text.find("pause ", at)) != std::string::npos; ++at)
      if (at == 0 || text[at - 1] == '\n') ++found;
    if (found >= count) return true;
    if (ended()) return false;
  }
  return false;
}

bool Program::finish(Provider& provider, Recorder& recorder) {
  const Nanos limit = monotonic_now() + kPatience;
  while (!ended()) {
    if (monotonic_now() > limit) return false;
    provider.poll(recorder, kMillisecond);
  }
  const Nanos end = monotonic_now();
  while (recorder.advanced <= end) {
    if (monotonic_now() > limit) return false;
    provider.poll(recorder, kMillisecond);
  }
  return true;
}

// --- comparison
// -------------------------------------------------------------------------------------

namespace {

bool inside(Nanos time, Nanos from, Nanos until) { return from <= time && time <= until; }

std::string describe(const Io& io) {
  std::ostringstream out;
  out << (io.event.direction == Direction::send ? "send" : "recv") << " sock=" << std::hex
      << io.event.sock << std::dec << " tid=" << io.event.task.tid << " time=" << io.event.time
      << " pos=" << io.event.position << " len=" << io.event.length
      << " captured=" << io.payload.size() << (io.event.eof ? " eof" : "")
      << (io.event.nonblocking ? " nonblock" : "") << (io.event.overlap ? " overlap" : "");
  return out.str();
}

void compare_move(const TruthMove& truth, const Io& io, bool payloads) {
  const IoEvent& event = io.event;
  const bool buffer = payloads && truth.flags.find('b') == std::string::npos;
  EXPECT_EQ(event.task.pid, truth.pid) << describe(io);
  EXPECT_EQ(event.task.ec, 0u) << describe(io);
  EXPECT_EQ(event.direction, truth.direction) << describe(io);
  EXPECT_EQ(event.position, truth.position) << describe(io);
  EXPECT_EQ(event.length, truth.length) << describe(io);
  EXPECT_EQ(event.eof, truth.flags.find('e') != std::string::npos) << describe(io);
  EXPECT_EQ(event.nonblocking, truth.flags.find('n') != std::string::npos) << describe(io);
  EXPECT_FALSE(event.overlap) << describe(io);
  EXPECT_EQ(event.payload_offset, 0u) << describe(io);
  const std::size_t wanted =
      buffer ? std::min<std::uint64_t>(truth.length, kCopied) : std::size_t{0};
  // Far into a new connection that nobody has spoken about only the beginning of a call is copied;
  // of one that may be older than the provider (UNIX sockets), still all.
  const bool far = truth.position >= OLLY_UNKNOWN_FULL;
  const std::size_t least = far ? std::min<std::size_t>(wanted, OLLY_UNKNOWN_COPY) : wanted;
  EXPECT_TRUE(io.payload.size() == wanted || io.payload.size() == least) << describe(io);
  EXPECT_TRUE(io.payload == truth.bytes.substr(0, io.payload.size()))
      << "captured other bytes than the program moved: " << describe(io);
}

std::string unix_path_text(const std::string& path) {
  if (path.empty()) return "-";
  std::string text = "path=";
  for (unsigned char c : path) {
    constexpr char kDigits[] = "0123456789abcdef";
    text.push_back(kDigits[c >> 4]);
    text.push_back(kDigits[c & 15]);
  }
  return text;
}

void compare_open(const std::string& name, const TruthSocket& truth, const Open& open) {
  SCOPED_TRACE("socket " + name);
  static const std::map<std::string, Role> roles{
      {"inbound", Role::inbound}, {"outbound", Role::outbound}, {"unknown", Role::unknown}};
  static const std::map<std::string, Family> families{
      {"inet", Family::inet}, {"inet6", Family::inet6}, {"unix", Family::unix_stream}};
  const OpenEvent& event = open.event;
  EXPECT_EQ(event.role, roles.at(truth.role));
  EXPECT_EQ(event.local.family, families.at(truth.family));
  if (truth.family == "unix") {
    const std::string& bound = truth.local != "-" ? truth.local : truth.remote;
    EXPECT_EQ(unix_path_text(open.path), bound);
  } else {
    EXPECT_EQ(event.remote.family, families.at(truth.family));
    EXPECT_EQ(endpoint_text(event.local), truth.local);
    EXPECT_EQ(endpoint_text(event.remote), truth.remote);
  }
  EXPECT_TRUE(event.identity.known());
  struct stat info {};
  if (stat("/proc/self/ns/net", &info) == 0) {
    EXPECT_EQ(event.netns, static_cast<std::uint32_t>(info.st_ino));
  }
}

using Sockets = std::map<std::string, SocketId>;

// Every move has its event, every event of the programs' threads its move.
Sockets compare_moves(const Truth& truth, const Recorder& recorder, bool payloads) {
  Sockets sockets;
  std::vector<bool> used(recorder.ios.size());
  for (const TruthMove& move : truth.moves) {
    bool found = false;
    for (std::size_t i = 0; i < recorder.ios.size() && !found; ++i) {
      const IoEvent& event = recorder.ios[i].event;
      if (used[i] || event.task.tid != move.tid || !inside(event.time, move.from, move.until))
        continue;
      used[i] = found = true;
      compare_move(move, recorder.ios[i], payloads);
      const auto [entry, fresh] = sockets.try_emplace(move.name, event.sock);
      EXPECT_EQ(entry->second, event.sock) << move.name << " is one socket";
    }
    EXPECT_TRUE(found) << "no event for " << move.name
                       << (move.direction == Direction::send ? " send " : " recv ") << move.position
                       << "+" << move.length << " by " << move.tid << " in " << move.from << "-"
                       << move.until;
  }
  for (std::size_t i = 0; i < recorder.ios.size(); ++i)
    EXPECT_TRUE(used[i]) << "an event that nothing explains: " << describe(recorder.ios[i]);
  return sockets;
}

const Open* find_open(const Recorder& recorder, SocketId sock) {
  for (const Open& open : recorder.opens)
    if (open.event.sock == sock) return &open;
  return nullptr;
}

void compare_opens(const Truth& truth, const Recorder& recorder, const Sockets& sockets) {
  for (const auto& [name, sock] : sockets) {
    const Open* open = find_open(recorder, sock);
    ASSERT_TRUE(open) << "no open for " << name;
    EXPECT_EQ(std::count_if(recorder.opens.begin(), recorder.opens.end(),
                            [&](const Open& other) { return other.event.sock == sock; }),
              1)
        << name;
    const auto described = truth.sockets.find(name);
    if (described != truth.sockets.end()) compare_open(name, described->second, *open);
    for (const Io& io : recorder.ios)
      if (io.event.sock == sock) {
        EXPECT_LT(open->order, io.order) << name << ": I/O before open";
      }
  }
  for (const TruthWindow& opened : truth.opened) {
    const auto socket = sockets.find(opened.name);
    if (socket == sockets.end()) continue;
    const Open* open = find_open(recorder, socket->second);
    if (!open) continue;
    EXPECT_TRUE(inside(open->event.time, opened.from, opened.until)) << opened.name;
    EXPECT_EQ(open->event.task.pid, opened.pid) << opened.name;
    EXPECT_EQ(open->event.task.tid, opened.tid) << opened.name;
    EXPECT_GT(open->event.connect_duration, 0u) << opened.name;
    EXPECT_LE(open->event.connect_duration, opened.until - opened.from) << opened.name;
    EXPECT_FALSE(open->event.met) << opened.name;
    EXPECT_EQ(open->event.recv_pos, 0u) << opened.name;
    EXPECT_EQ(open->event.send_pos, 0u) << opened.name;
  }
  for (const auto& [a, b] : truth.pairs) {
    if (!sockets.contains(a) || !sockets.contains(b)) continue;
    const Open* one = find_open(recorder, sockets.at(a));
    const Open* other = find_open(recorder, sockets.at(b));
    if (!one || !other) continue;
    EXPECT_NE(one->event.sock, other->event.sock);
    EXPECT_TRUE(one->event.identity == other->event.identity.peer()) << a << " and " << b;
  }
}

void compare_windows(const Truth& truth, const Recorder& recorder, const Sockets& sockets) {
  for (const TruthWindow& connect : truth.connects) {
    const auto found = std::count_if(
        recorder.connects.begin(), recorder.connects.end(), [&](const ConnectEvent& event) {
          return event.error == connect.a && event.task.tid == connect.tid &&
                 inside(event.time, connect.from, connect.until);
        });
    EXPECT_EQ(found, 1) << "connect of " << connect.name << " error " << connect.a;
  }
  for (const TruthWindow& none : truth.nones)
    for (const Io& io : recorder.ios)
      EXPECT_FALSE(io.event.task.tid == none.tid && inside(io.event.time, none.from, none.until))
          << "nothing was moved: " << describe(io);
  for (const TruthWindow& closed : truth.closes) {
    const auto socket = sockets.find(closed.name);
    if (socket == sockets.end()) continue;
    std::size_t found = 0;
    for (const Close& close : recorder.closes) {
      if (close.event.sock != socket->second) continue;
      ++found;
      EXPECT_GE(close.event.time, closed.from) << closed.name;
      EXPECT_TRUE(close.event.positions_known) << closed.name;
      EXPECT_EQ(close.event.recv_pos, closed.a) << closed.name;
      EXPECT_EQ(close.event.send_pos, closed.b) << closed.name;
    }
    // No hook sees a UNIX socket go, whichever the back end.
    const auto described = truth.sockets.find(closed.name);
    const bool unix = described != truth.sockets.end() && described->second.family == "unix";
    EXPECT_EQ(found, unix ? 0u : 1u) << "close of " << closed.name;
  }
}

void compare_stamps(const Recorder& recorder) {
  EXPECT_EQ(recorder.disorder, 0u) << "events out of time order";
  std::map<std::uint32_t, const IoEvent*> last;
  for (const Io& io : recorder.ios) {
    const IoEvent*& before = last[io.event.task.tid];
    if (before) {
      const auto wall = static_cast<std::int64_t>(io.event.time - before->time);
      const auto cpu = static_cast<std::int64_t>(io.event.task.cpu - before->task.cpu);
      const auto slack = static_cast<std::int64_t>(20 * kMillisecond);  // the clocks tick apart
      EXPECT_GE(cpu, -slack) << describe(io);
      EXPECT_LE(cpu, wall + slack) << describe(io);
      EXPECT_GE(io.event.task.runq, before->task.runq) << describe(io);
    }
    before = &io.event;
  }
}

}  // namespace

std::map<std::string, SocketId> compare(const Truth& truth, const Recorder& recorder,
                                        bool payloads) {
  Sockets sockets = compare_moves(truth, recorder, payloads);
  compare_opens(truth, recorder, sockets);
  compare_windows(truth, recorder, sockets);
  compare_stamps(recorder);
  conserve(recorder);
  return sockets;
}

void conserve(const Recorder& recorder) {
  for (const Open& open : recorder.opens) {
    std::uint64_t at[2] = {open.event.recv_pos, open.event.send_pos}, moved[2] = {0, 0},
                  gap[2] = {0, 0};
    for (const Io& io : recorder.ios) {
      if (io.event.sock != open.event.sock || io.event.overlap) continue;
      const auto d = static_cast<std::size_t>(io.event.direction);
      EXPECT_GE(io.event.position, at[d]) << describe(io);
      gap[d] += io.event.position - at[d];
      moved[d] += io.event.length;
      at[d] = io.event.position + io.event.length;
    }
    for (const Close& close : recorder.closes) {
      if (close.event.sock != open.event.sock || !close.event.positions_known) continue;
      const std::uint64_t end[2] = {close.event.recv_pos, close.event.send_pos};
      const std::uint64_t begin[2] = {open.event.recv_pos, open.event.send_pos};
      for (std::size_t d = 0; d < 2; ++d) {
        EXPECT_GE(end[d], at[d]);
        gap[d] += end[d] - at[d];
        EXPECT_EQ(begin[d] + moved[d] + gap[d], end[d]) << "bytes are conserved";
      }
    }
  }
}

}  // namespace olly::kernel_test
