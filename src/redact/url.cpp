#include "redact/url.h"

#include <array>

namespace olly::redact {
namespace {

constexpr std::array<std::string_view, 5> kSecretKeys = {
    "X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "sig", "X-Goog-Signature"};

int hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Compares without decoding into memory: `encoded` may hold %XX.
bool decodes_to(std::string_view encoded, std::string_view plain) noexcept {
  std::size_t i = 0;
  for (const char expected : plain) {
    if (i >= encoded.size()) return false;
    char c = encoded[i];
    if (c == '%' && i + 2 < encoded.size() && hex_digit(encoded[i + 1]) >= 0 &&
        hex_digit(encoded[i + 2]) >= 0) {
      c = static_cast<char>(hex_digit(encoded[i + 1]) << 4 | hex_digit(encoded[i + 2]));
      i += 2;
    }
    if (c != expected) return false;
    ++i;
  }
  return i == encoded.size();
}

bool is_secret(std::string_view key) noexcept {
  if (key.size() < 3) return false;
  for (const std::string_view secret : kSecretKeys) {
    if (decodes_to(key, secret)) return true;
  }
  return false;
}

// Takes the next `key[=value]` off `query`; `separator` is the '&' (or ';') behind it, or 0.
struct Parameter {
  std::string_view text;
  std::string_view key;
  char separator;
};

Parameter next_parameter(std::string_view& query) noexcept {
  const std::size_t end = query.find_first_of("&;");
  Parameter p{query.substr(0, end), {}, '\0'};
  if (end == std::string_view::npos) {
    query = {};
  } else {
    p.separator = query[end];
    query.remove_prefix(end + 1);
  }
  p.key = p.text.substr(0, p.text.find('='));
  return p;
}

}  // namespace

bool query_has_secret(std::string_view query) noexcept {
  while (!query.empty()) {
    const Parameter p = next_parameter(query);
    if (p.key.size() != p.text.size() && is_secret(p.key)) return true;
  }
  return false;
}

void append_query(std::string& out, std::string_view query) {
  while (!query.empty()) {
    const Parameter p = next_parameter(query);
    if (p.key.size() != p.text.size() && is_secret(p.key)) {
      out.append(p.key);
      out.push_back('=');
      out.append(kRedacted);
    } else {
      out.append(p.text);
    }
    if (p.separator != '\0') out.push_back(p.separator);
  }
}

std::string_view strip_userinfo(std::string_view authority, bool& had_userinfo) noexcept {
  const std::size_t at = authority.rfind('@');
  had_userinfo = at != std::string_view::npos;
  return had_userinfo ? authority.substr(at + 1) : authority;
}

}  // namespace olly::redact
