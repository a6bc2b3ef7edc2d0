// The replay format (docs/replay-format.md): a text file in, statements out. No I/O but @file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/time.h"
#include "discovery/process.h"
#include "event/event.h"

namespace olly::replay {

struct ProcessLine {
  std::string name;
  std::uint32_t pid = 0;
  std::uint32_t parent = 0;
  std::string exe;
  std::string service;
  Runtime runtime = Runtime::unknown;
};

struct ConnLine {
  std::string name;
  std::size_t process = 0;  // index of Recording::processes
  Role role = Role::unknown;
  Endpoint local, remote;
  std::string path;
  ConnectionIdentity identity;  // {0,0}: id=none
  std::uint32_t netns = 0;
  bool met = false;           // older than the recording
  bool connect_told = false;  // has a `connect` statement of its own
  bool declared = false;      // its `conn` statement has come; else only its connect() has
  bool tls = false;           // what it moves is the plaintext, where no flag says otherwise
  std::uint64_t recv_pos = 0, send_pos = 0;
};

// What a TLS library says of a connection, see TlsEvent.
struct TlsWords {
  std::uint16_t version = 0;
  std::uint16_t cipher = 0;
  std::string alpn;
  std::string server_name;
};

struct Step {
  enum class Kind { exec, exit, open, connect, io, gap, tls, close, lost, wait } kind = Kind::wait;
  Nanos at = 0;             // since the beginning of the recording
  std::size_t subject = 0;  // index of processes (exec, exit) or conns
  std::uint32_t line = 0;
  TaskStamp task;
  Direction direction = Direction::recv;
  std::string payload;
  std::uint32_t length = 0;  // io: bytes moved, payload and more; gap: bytes moved unseen
  std::uint32_t payload_offset = 0;
  Nanos duration = 0;  // lost
  bool eof = false, nonblocking = false, overlap = false;
  bool plaintext = false, ciphertext = false;  // io, gap: see IoEvent
  std::optional<std::uint64_t> position;       // plaintext: where it goes on; else where it ended
  TlsWords tls;
  std::uint32_t error = 0;
};

// One `expect` statement, taken apart.
struct Expectation {
  enum class Kind { span, no_span, spans, bytes, metric } kind = Kind::span;
  std::uint32_t line = 0;
  std::string text;  // the statement as written
  // span: key=value as written ("*" = present), and keys that must be absent (written !key).
  // bytes: fate=number. metric: label=value.
  std::vector<std::pair<std::string, std::string>> values;
  std::vector<std::string> absent;
  std::string as;
  std::uint64_t number = 0;  // spans, metric
  std::string metric;
  std::optional<Direction> direction;  // bytes
  std::string connection;              // bytes; empty = all
};

struct Recording {
  std::string file;
  std::vector<ProcessLine> processes;
  std::vector<ConnLine> conns;
  std::vector<Step> steps;
  std::vector<Expectation> expectations;
};

// `file` is for messages, and @path is relative to its directory. Errors: ErrorCode::config with
// file:line:column and what is allowed there.
Result<Recording> parse(std::string_view text, const std::string& file);
Result<Recording> load(const std::string& path);

// "3ms", "120us", "1.5s"; units ns us ms s m. Nothing when it is not a duration.
std::optional<Nanos> parse_duration(std::string_view text);
// The shortest exact form: "3ms", "1500us".
std::string duration_text(Nanos duration);

}  // namespace olly::replay
