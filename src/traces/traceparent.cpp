#include "traces/traceparent.h"

#include <algorithm>
#include <array>

namespace olly {
namespace {

constexpr std::size_t kLength = 55;  // 2 + 1 + 32 + 1 + 16 + 1 + 2
constexpr std::size_t kMaxMembers = 32;
constexpr std::size_t kMaxKey = 256;
constexpr std::size_t kMaxValue = 256;

// Lower case only: 3.2.2 makes upper-case digits invalid.
int hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

bool read_hex(std::string_view text, std::uint8_t* out) noexcept {
  for (std::size_t i = 0; i < text.size(); i += 2) {
    const int high = hex_digit(text[i]);
    const int low = hex_digit(text[i + 1]);
    if (high < 0 || low < 0) return false;
    out[i / 2] = static_cast<std::uint8_t>(high << 4 | low);
  }
  return true;
}

bool is_key_char(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '*' ||
         c == '/' || c == '@';
}

bool valid_key(std::string_view key) noexcept {
  if (key.empty() || key.size() > kMaxKey) return false;
  const char first = key.front();
  if (!((first >= 'a' && first <= 'z') || (first >= '0' && first <= '9'))) return false;
  return std::all_of(key.begin(), key.end(), is_key_char);
}

bool valid_value(std::string_view value) noexcept {
  if (value.empty() || value.size() > kMaxValue || value.back() == ' ') return false;
  return std::all_of(value.begin(), value.end(),
                     [](char c) { return c >= 0x20 && c <= 0x7e && c != ',' && c != '='; });
}

std::string_view trim(std::string_view text) noexcept {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

}  // namespace

TraceParent parse_traceparent(std::string_view value) noexcept {
  TraceParent out;
  if (value.size() < kLength || value[2] != '-' || value[35] != '-' || value[52] != '-') return {};
  std::uint8_t version = 0;
  if (!read_hex(value.substr(0, 2), &version) || version == 0xff) return {};
  if (version == 0 && value.size() != kLength) return {};
  if (value.size() > kLength && value[kLength] != '-') return {};
  if (!read_hex(value.substr(3, 32), out.trace_id.bytes.data()) ||
      !read_hex(value.substr(36, 16), out.parent_id.bytes.data()) ||
      !read_hex(value.substr(53, 2), &out.flags)) {
    return {};
  }
  if (!out.trace_id.valid() || !out.parent_id.valid()) return {};
  out.valid = true;
  return out;
}

bool valid_tracestate(std::string_view value) noexcept {
  std::array<std::string_view, kMaxMembers> keys;
  std::size_t members = 0;
  while (!value.empty()) {
    const std::size_t comma = value.find(',');
    const std::string_view member = trim(value.substr(0, comma));
    value = comma == std::string_view::npos ? std::string_view{} : value.substr(comma + 1);
    if (member.empty()) continue;
    if (members == kMaxMembers) return false;
    const std::size_t equals = member.find('=');
    if (equals == std::string_view::npos) return false;
    const std::string_view key = member.substr(0, equals);
    if (!valid_key(key) || !valid_value(member.substr(equals + 1))) return false;
    for (std::size_t i = 0; i < members; ++i) {
      if (keys[i] == key) return false;
    }
    keys[members++] = key;
  }
  return members > 0;
}

}  // namespace olly
