#include "protocol/http2/head.h"

#include <charconv>

namespace olly::http2 {
namespace {

constexpr std::array<std::string_view, kNames> kTexts = {"",
                                                         ":method",
                                                         ":path",
                                                         ":scheme",
                                                         ":authority",
                                                         ":status",
                                                         "host",
                                                         "user-agent",
                                                         "forwarded",
                                                         "x-forwarded-for",
                                                         "x-forwarded-proto",
                                                         "traceparent",
                                                         "tracestate",
                                                         "content-type",
                                                         "grpc-status",
                                                         "grpc-timeout"};

// A value may be longer than anything that will be made of it.
constexpr std::size_t kMaxValue = 64 * 1024;

int number_of(std::string_view text) noexcept {
  int number = -1;
  const auto [at, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && at == text.data() + text.size() && !text.empty() && text[0] != '-'
             ? number
             : -1;
}

}  // namespace

std::uint8_t name_of(std::string_view name) noexcept {
  if (name.size() < 4 || name.size() > 17) return 0;
  for (std::size_t i = 1; i < kTexts.size(); ++i) {
    if (kTexts[i].size() == name.size() && kTexts[i] == name) return static_cast<std::uint8_t>(i);
  }
  return 0;
}

void Head::clear() noexcept {
  ranges_ = {};
  text_.clear();
  unknown_ = false;
}

void Head::add(const Field& f) {
  // An unknown name; or a known one whose value lies where nobody looked.
  if (!f.known || (f.kind != 0 && !f.value_kept)) unknown_ = true;
  if (f.kind == 0 || !f.known || !f.value_kept || f.value.size() > kMaxValue) return;
  Range& r = ranges_[f.kind];
  const bool is_state = f.kind == static_cast<std::uint8_t>(Name::tracestate);
  if (r.count == 0 || (is_state && r.count < tracestate_.size())) {
    const Range stored{static_cast<std::uint32_t>(text_.size()),
                       static_cast<std::uint32_t>(f.value.size()), 1};
    text_.append(f.value);
    if (is_state) tracestate_[r.count] = stored;
    if (r.count == 0) r = stored, r.count = 0;
  }
  if (r.count < 255) ++r.count;
}

std::string_view Head::get(Name n) const noexcept {
  const Range& r = range(n);
  return r.count == 0 ? std::string_view{} : text(r);
}

HttpFields Head::fields() const noexcept {
  HttpFields f;
  f.host = get(Name::host);
  f.host_count = count(Name::host);
  f.user_agent = get(Name::user_agent);
  f.forwarded = get(Name::forwarded);
  f.x_forwarded_for = get(Name::x_forwarded_for);
  f.x_forwarded_proto = get(Name::x_forwarded_proto);
  f.traceparent = get(Name::traceparent);
  f.traceparent_count = count(Name::traceparent);
  f.tracestate_count = count(Name::tracestate);
  for (std::size_t i = 0; i < tracestate_.size() && i < f.tracestate_count; ++i) {
    f.tracestate[i] = text(tracestate_[i]);
  }
  return f;
}

bool Head::is_request() const noexcept {
  return has(Name::method) || has(Name::path) || has(Name::scheme) || has(Name::authority);
}

int Head::status() const noexcept {
  const std::string_view text = get(Name::status);
  const int status = text.size() == 3 ? number_of(text) : -1;
  return status >= 100 ? status : -1;
}

bool Head::is_grpc() const noexcept {
  constexpr std::string_view kType = "application/grpc";
  const std::string_view type = get(Name::content_type);
  if (type.size() < kType.size() || !iequals(type.substr(0, kType.size()), kType)) return false;
  return type.size() == kType.size() || type[kType.size()] == '+' || type[kType.size()] == ';';
}

int Head::grpc_status() const noexcept { return number_of(get(Name::grpc_status)); }

std::uint64_t Head::grpc_timeout() const noexcept {
  std::string_view text = get(Name::grpc_timeout);
  if (text.size() < 2 || text.size() > 9) return 0;
  const char unit = text.back();
  text.remove_suffix(1);
  const int value = number_of(text);
  if (value < 0) return 0;
  const auto n = static_cast<std::uint64_t>(value);
  switch (unit) {
    case 'H':
      return n * 3600 * kSecond;
    case 'M':
      return n * 60 * kSecond;
    case 'S':
      return n * kSecond;
    case 'm':
      return n * kMillisecond;
    case 'u':
      return n * kMicrosecond;
    case 'n':
      return n;
    default:
      return 0;
  }
}

}  // namespace olly::http2
