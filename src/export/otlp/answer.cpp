#include "export/otlp/answer.h"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <exception>
#include <protozero/pbf_reader.hpp>

#include "export/buffer.h"
#include "export/utf8.h"

namespace olly::otlp {
namespace {

using protozero::pbf_reader;
using protozero::pbf_wire_type;

constexpr int kOk = 0, kCancelled = 1, kDeadlineExceeded = 4, kResourceExhausted = 8, kAborted = 10,
              kOutOfRange = 11, kUnimplemented = 12, kUnavailable = 14, kDataLoss = 15,
              kUnknown = 2, kPermissionDenied = 7, kUnauthenticated = 16;

bool is_field(const pbf_reader& message, std::uint32_t tag, pbf_wire_type type) {
  return message.tag() == tag && message.wire_type() == type;
}

milliseconds bounded_wait(std::int64_t seconds, std::int64_t nanos) {
  if (seconds < 0 || nanos < 0) return milliseconds(0);
  if (seconds >= kMaxWait.count() / 1000) return kMaxWait;
  return milliseconds(seconds * 1000 + std::min<std::int64_t>(nanos, 999'999'999) / 1'000'000);
}

// google.protobuf.Any of a google.rpc.RetryInfo.
void read_detail(pbf_reader any, std::optional<milliseconds>& wait) {
  std::string_view type, value;
  while (any.next()) {
    if (is_field(any, 1, pbf_wire_type::length_delimited)) {
      const auto v = any.get_view();
      type = {v.data(), v.size()};
    } else if (is_field(any, 2, pbf_wire_type::length_delimited)) {
      const auto v = any.get_view();
      value = {v.data(), v.size()};
    } else {
      any.skip();
    }
  }
  if (type != "type.googleapis.com/google.rpc.RetryInfo") return;
  wait = milliseconds(0);
  pbf_reader info(value.data(), value.size());
  while (info.next()) {
    if (!is_field(info, 1, pbf_wire_type::length_delimited)) {
      info.skip();
      continue;
    }
    pbf_reader duration = info.get_message();
    std::int64_t seconds = 0, nanos = 0;
    while (duration.next()) {
      if (is_field(duration, 1, pbf_wire_type::varint)) {
        seconds = duration.get_int64();
      } else if (is_field(duration, 2, pbf_wire_type::varint)) {
        nanos = duration.get_int32();
      } else {
        duration.skip();
      }
    }
    wait = bounded_wait(seconds, nanos);
  }
}

// What servers say when a message is too long for them: grpc-go, C-core, Java, tonic.
bool speaks_of_size(std::string_view message) {
  std::string text(message);
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text.find("larger than max") != std::string::npos ||
         text.find("too large") != std::string::npos ||
         text.find("maximum size") != std::string::npos || text.find("limit") != std::string::npos;
}

}  // namespace

bool read_export_response(std::string_view bytes, Answer& to) noexcept {
  try {
    pbf_reader response(bytes.data(), bytes.size());
    while (response.next()) {
      if (!is_field(response, 1, pbf_wire_type::length_delimited)) {
        response.skip();
        continue;
      }
      pbf_reader partial = response.get_message();
      while (partial.next()) {
        if (is_field(partial, 1, pbf_wire_type::varint)) {
          to.rejected = static_cast<std::uint64_t>(std::max<std::int64_t>(partial.get_int64(), 0));
        } else if (is_field(partial, 2, pbf_wire_type::length_delimited)) {
          const auto text = partial.get_view();
          to.message = readable({text.data(), text.size()}, false);
        } else {
          partial.skip();
        }
      }
    }
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

bool read_rpc_status(std::string_view bytes, std::string& message,
                     std::optional<milliseconds>& wait) noexcept {
  try {
    pbf_reader status(bytes.data(), bytes.size());
    while (status.next()) {
      if (is_field(status, 2, pbf_wire_type::length_delimited)) {
        const auto text = status.get_view();
        message = readable({text.data(), text.size()}, false);
      } else if (is_field(status, 3, pbf_wire_type::length_delimited)) {
        read_detail(status.get_message(), wait);
      } else {
        status.skip();
      }
    }
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

std::optional<milliseconds> read_retry_after(std::string_view text,
                                             std::int64_t now_unix) noexcept {
  if (text.empty() || text.size() > 40) return std::nullopt;
  if (std::ranges::all_of(text, [](unsigned char c) { return std::isdigit(c) != 0; })) {
    std::int64_t seconds = 0;
    const auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), seconds);
    return bad == std::errc{} ? bounded_wait(seconds, 0) : kMaxWait;
  }
  char terminated[41] = "";
  text.copy(terminated, text.size());
  tm date{};
  // The agent never calls setlocale: names of days and months are the "C" locale's.
  const char* end = ::strptime(terminated, "%a, %d %b %Y %H:%M:%S GMT", &date);
  if (end == nullptr || *end != '\0') return std::nullopt;
  return bounded_wait(static_cast<std::int64_t>(::timegm(&date)) - now_unix, 0);
}

Answer judge_http(int status, std::string_view body, std::string_view retry_after,
                  std::int64_t now_unix) {
  Answer a;
  if (status >= 200 && status < 300) {
    a.kind = Answer::Kind::accepted;
    if (!read_export_response(body, a)) a = {Answer::Kind::accepted, {}, 0, {}};
    return a;
  }
  std::string message;
  std::optional<milliseconds> ignored;
  if (!read_rpc_status(body, message, ignored)) message = readable(body, false);
  a.message = fmt::format("HTTP {}{}{}", status, message.empty() ? "" : ": ", message);
  if (status == 429 || (status >= 502 && status <= 504)) {
    a.kind = Answer::Kind::retry;
    a.wait = read_retry_after(retry_after, now_unix);
  } else if (status == 413) {
    a.kind = Answer::Kind::too_large;
  } else if (status == 415) {
    a.kind = Answer::Kind::encoding;
  } else {
    a.kind = Answer::Kind::refused;
  }
  return a;
}

Answer judge_grpc(int code, std::string_view message, std::string_view details) {
  Answer a;
  std::string text;
  if (const auto bytes = decode_base64(details)) read_rpc_status(*bytes, text, a.wait);
  const std::string said = message.empty() ? text : readable(message, true);
  a.message = fmt::format("gRPC status {}{}{}", code, said.empty() ? "" : ": ", said);
  switch (code) {
    case kOk:
      a.kind = Answer::Kind::accepted;
      a.message.clear();
      break;
    case kCancelled:
    case kDeadlineExceeded:
    case kAborted:
    case kOutOfRange:
    case kUnavailable:
    case kDataLoss:
      a.kind = Answer::Kind::retry;
      break;
    case kResourceExhausted:
      a.kind = a.wait                 ? Answer::Kind::retry
               : speaks_of_size(said) ? Answer::Kind::too_large
                                      : Answer::Kind::refused;
      break;
    case kUnimplemented:
      a.kind = Answer::Kind::encoding;
      break;
    default:
      a.kind = Answer::Kind::refused;
  }
  return a;
}

int grpc_status_of_http(int status) noexcept {
  switch (status) {
    case 400:
      return kGrpcInternal;
    case 401:
      return kUnauthenticated;
    case 403:
      return kPermissionDenied;
    case 404:
      return kUnimplemented;
    case 429:
    case 502:
    case 503:
    case 504:
      return kUnavailable;
    default:
      return kUnknown;
  }
}

std::optional<std::string> decode_base64(std::string_view text) {
  while (text.ends_with('=')) text.remove_suffix(1);
  if (text.size() % 4 == 1) return std::nullopt;
  std::string out;
  out.reserve(text.size() * 3 / 4);
  unsigned bits = 0;
  int have = 0;
  for (const char c : text) {
    unsigned value = 0;
    if (c >= 'A' && c <= 'Z') {
      value = static_cast<unsigned>(c - 'A');
    } else if (c >= 'a' && c <= 'z') {
      value = static_cast<unsigned>(c - 'a' + 26);
    } else if (c >= '0' && c <= '9') {
      value = static_cast<unsigned>(c - '0' + 52);
    } else if (c == '+' || c == '-') {
      value = 62;
    } else if (c == '/' || c == '_') {
      value = 63;
    } else {
      return std::nullopt;
    }
    bits = (bits << 6 | value) & 0xffff;
    have += 6;
    if (have >= 8) {
      have -= 8;
      out += static_cast<char>(bits >> have & 0xff);
    }
  }
  return out;
}

std::string readable(std::string_view text, bool percent) {
  std::string out;
  for (std::size_t i = 0; i < text.size() && out.size() < 200; ++i) {
    unsigned byte = 0;
    if (percent && text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 3, byte, 16).ptr ==
            text.data() + i + 3) {
      out += static_cast<char>(byte);
      i += 2;
    } else {
      out += text[i];
    }
  }
  ByteBuffer scratch;
  std::string valid(to_valid_utf8(out, scratch));
  for (char& c : valid) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return valid;
}

}  // namespace olly::otlp
