// Destinations, as tracing.propagation.inject names them.
#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstring>

#include "config/schema.h"

namespace olly::config {
namespace {

constexpr std::size_t kLongestName = 100;

bool number(std::string_view text, unsigned& out, unsigned most) {
  const auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), out);
  return bad == std::errc{} && end == text.data() + text.size() && out <= most;
}

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= kLongestName && std::ranges::all_of(text, [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           std::string_view("._-*?").find(c) != std::string_view::npos;
  });
}

// ADDRESS or ADDRESS/BITS. False: it is no address.
bool address(std::string_view text, bool v6, Destination& out) {
  const auto slash = text.find('/');
  const std::string host(text.substr(0, slash));
  unsigned bits = v6 ? 128 : 32;
  if (slash != std::string_view::npos && !number(text.substr(slash + 1), bits, bits)) return false;
  if (inet_pton(v6 ? AF_INET6 : AF_INET, host.c_str(), out.address.data()) != 1) return false;
  out.by_address = true;
  out.v6 = v6;
  out.bits = static_cast<std::uint8_t>(bits);
  return true;
}

}  // namespace

Result<Destination> parse_destination(std::string_view text) {
  Destination out;
  std::string_view host = text;
  const bool bracketed = text.starts_with('[');
  const bool bare_v6 = !bracketed && std::ranges::count(text, ':') > 1;
  const auto close = text.rfind(']');
  const auto colon = text.rfind(':');
  unsigned port = 0;
  bool ok = !bracketed || close != std::string_view::npos;
  if (!bare_v6 && colon != std::string_view::npos && (!bracketed || colon == close + 1)) {
    ok = ok && number(text.substr(colon + 1), port, 65535) && port > 0;
    host = text.substr(0, colon);
  }
  if (ok && bracketed) {
    ok = host.ends_with(']');
    if (ok) host = host.substr(1, host.size() - 2);
  }
  out.port = static_cast<std::uint16_t>(port);
  if (ok && address(host, bracketed || bare_v6, out)) return out;
  if (ok && !bracketed && is_name(host)) {
    out.name = host;
    std::ranges::transform(out.name, out.name.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return out;
  }
  return fail(ErrorCode::config,
              fmt::format("'{}' is no destination; allowed: '*', HOST[:PORT] with * and ?, "
                          "ADDRESS[/BITS][:PORT], [V6ADDRESS[/BITS]]:PORT",
                          text));
}

}  // namespace olly::config
