#include "hook/decode.h"

#include <algorithm>
#include <cstring>

#include "event/abi.h"

namespace olly {
namespace {

TaskStamp task_stamp(const olly_task& t) noexcept {
  return {.pid = t.pid, .tid = t.tid, .ec = t.ec, .cpu = t.cpu_ns, .runq = t.runq_ns};
}

std::string_view bounded(const char* text, std::size_t size) noexcept {
  return {text, strnlen(text, size)};
}

Endpoint endpoint(std::uint8_t family, const olly_u8 (&addr)[16], std::uint16_t port) noexcept {
  Endpoint e;
  switch (family) {
    case OLLY_FAMILY_INET:
      e.family = Family::inet;
      break;
    case OLLY_FAMILY_INET6:
      e.family = Family::inet6;
      break;
    case OLLY_FAMILY_UNIX:
      e.family = Family::unix_stream;
      return e;
    default:
      return e;
  }
  e.port = port;
  std::copy(std::begin(addr), std::end(addr), e.addr.begin());
  return e;
}

void decode_process(const olly_process_record& r, Nanos time, EventSink& sink) noexcept {
  ProcessEvent event;
  event.kind = r.h.type == OLLY_REC_EXEC   ? ProcessEvent::Kind::exec
               : r.h.type == OLLY_REC_FORK ? ProcessEvent::Kind::fork
                                           : ProcessEvent::Kind::exit;
  event.time = time;
  event.pid = r.task.pid;
  event.parent_pid = r.parent_pid;
  event.comm = bounded(r.comm, sizeof r.comm);
  if (r.h.type == OLLY_REC_EXEC) event.filename = bounded(r.filename, sizeof r.filename);
  sink.on_process(event);
}

bool decode_open(const olly_open_record& r, Nanos time, EventSink& sink) noexcept {
  if (r.path_len > sizeof r.path || r.role > OLLY_ROLE_OUTBOUND) return false;
  OpenEvent event;
  event.time = time;
  event.task = task_stamp(r.task);
  event.sock = r.sock;
  event.role = static_cast<Role>(r.role);
  event.local = endpoint(r.family, r.local_addr, r.local_port);
  event.remote = endpoint(r.family, r.remote_addr, r.remote_port);
  if (r.family == OLLY_FAMILY_UNIX && r.path_len > 0) {
    // A bound path ends with a NUL that is counted; an abstract name begins with one.
    event.path =
        r.path[0] == '\0' ? std::string_view(r.path, r.path_len) : bounded(r.path, r.path_len);
  }
  event.identity = {r.out_first, r.in_first};
  event.netns = r.netns;
  event.recv_pos = r.recv_pos;
  event.send_pos = r.send_pos;
  event.connect_duration = r.connect_ns;
  event.met = (r.h.flags & OLLY_OPEN_MET) != 0;
  event.own = (r.h.flags & OLLY_OPEN_OWN) != 0;
  sink.on_open(event);
  return true;
}

bool decode_io(const olly_io_record& r, ByteView record, Nanos time, EventSink& sink) noexcept {
  const std::size_t room = record.size() - sizeof r;
  if (r.captured > room || r.direction > OLLY_SEND) return false;
  if (r.captured_offset > r.length || r.captured > r.length - r.captured_offset) return false;
  IoEvent event;
  event.time = time;
  event.task = task_stamp(r.task);
  event.sock = r.sock;
  event.direction = static_cast<Direction>(r.direction);
  event.position = r.position;
  event.length = r.length;
  event.payload_offset = r.captured_offset;
  event.payload = record.subspan(sizeof r, r.captured);
  event.eof = (r.h.flags & OLLY_IO_EOF) != 0;
  event.nonblocking = (r.h.flags & OLLY_IO_NONBLOCK) != 0;
  event.overlap = (r.h.flags & OLLY_IO_OVERLAP) != 0;
  event.plaintext = (r.h.flags & OLLY_IO_PLAINTEXT) != 0;
  event.ciphertext = !event.plaintext && (r.h.flags & OLLY_IO_CIPHERTEXT) != 0;
  sink.on_io(event);
  return true;
}

template <class Record>
const Record* as(ByteView record) noexcept {
  return record.size() < sizeof(Record) ? nullptr : reinterpret_cast<const Record*>(record.data());
}

}  // namespace

bool decode_record(ByteView record, Nanos time, EventSink& sink) noexcept {
  const auto* head = as<olly_record>(record);
  if (head == nullptr || head->size < sizeof *head || head->size > record.size()) return false;
  record = record.first(head->size);
  switch (head->type) {
    case OLLY_REC_EXEC:
    case OLLY_REC_FORK:
    case OLLY_REC_EXIT: {
      const auto* r = as<olly_process_record>(record);
      if (r == nullptr) return false;
      decode_process(*r, time, sink);
      return true;
    }
    case OLLY_REC_CONNECT: {
      const auto* r = as<olly_connect_record>(record);
      if (r == nullptr) return false;
      sink.on_connect(
          {.time = time, .task = task_stamp(r->task), .sock = r->sock, .error = r->error});
      return true;
    }
    case OLLY_REC_OPEN: {
      const auto* r = as<olly_open_record>(record);
      return r != nullptr && decode_open(*r, time, sink);
    }
    case OLLY_REC_IO: {
      const auto* r = as<olly_io_record>(record);
      return r != nullptr && decode_io(*r, record, time, sink);
    }
    case OLLY_REC_CLOSE: {
      const auto* r = as<olly_close_record>(record);
      if (r == nullptr) return false;
      sink.on_close({.time = time,
                     .sock = r->sock,
                     .recv_pos = r->recv_pos,
                     .send_pos = r->send_pos,
                     .positions_known = true,
                     .error = r->error});
      return true;
    }
    case OLLY_REC_TLS: {
      const auto* r = as<olly_tls_record>(record);
      if (r == nullptr) return false;
      sink.on_tls({.time = time,
                   .sock = r->sock,
                   .version = r->version,
                   .cipher = r->cipher,
                   .alpn = bounded(r->alpn, sizeof r->alpn),
                   .server_name = bounded(r->server_name, sizeof r->server_name)});
      return true;
    }
    case OLLY_REC_INJECT: {
      const auto* r = as<olly_inject_record>(record);
      if (r == nullptr) return false;
      InjectEvent event;
      event.time = time;
      std::copy(std::begin(r->trace_id), std::end(r->trace_id), event.trace_id.begin());
      std::copy(std::begin(r->span_id), std::end(r->span_id), event.span_id.begin());
      sink.on_inject(event);
      return true;
    }
    default:
      return true;
  }
}

static_assert(plaintext_layer(0) == OLLY_PLAINTEXT_POLICY);

}  // namespace olly
