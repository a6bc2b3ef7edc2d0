#include "protocol/common/http.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string>

#include "protocol/common/endpoints.h"
#include "redact/url.h"
#include "traces/semconv.h"
#include "traces/traceparent.h"

namespace olly {
namespace {

// RFC 9112 section 3.2, taken apart. An empty member was not in the target.
struct Target {
  std::string_view scheme;
  std::string_view authority;
  std::string_view path;
  std::string_view query;
  bool has_query = false;
};

struct HostPort {
  std::string_view host;  // without brackets
  int port = -1;
};

inline char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

bool is_host_char(char c) noexcept {
  const auto u = static_cast<unsigned char>(c);
  return u > 0x20 && u != 0x7f && c != '/' && c != '@' && c != '?' && c != '#' && c != '\\';
}

int parse_port(std::string_view text) noexcept {
  int port = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc{} || end != text.data() + text.size() || port < 0 || port > 65535)
    return -1;
  return port;
}

// "host", "host:port", "[v6]", "[v6]:port". An empty host means it was none of these.
HostPort split_host(std::string_view authority) noexcept {
  HostPort out;
  if (!std::all_of(authority.begin(), authority.end(), is_host_char)) return out;
  std::string_view rest;
  if (!authority.empty() && authority.front() == '[') {
    const std::size_t close = authority.find(']');
    if (close == std::string_view::npos) return out;
    out.host = authority.substr(1, close - 1);
    rest = authority.substr(close + 1);
  } else {
    const std::size_t colon = authority.find(':');
    out.host = authority.substr(0, colon);
    rest = colon == std::string_view::npos ? std::string_view{} : authority.substr(colon);
  }
  if (rest.empty()) return out;
  if (rest.front() != ':') return {};
  rest.remove_prefix(1);
  if (rest.empty()) return out;  // "host:" means the default port (RFC 3986 3.2.3)
  out.port = parse_port(rest);
  return out.port < 0 ? HostPort{} : out;
}

Target split_target(std::string_view method, std::string_view target) noexcept {
  Target out;
  if (method == "CONNECT") {
    out.authority = target;
    return out;
  }
  const std::size_t scheme_end = target.find("://");
  if (!target.empty() && target.front() != '/' && scheme_end != std::string_view::npos) {
    out.scheme = target.substr(0, scheme_end);
    target.remove_prefix(scheme_end + 3);
    const std::size_t authority_end = target.find_first_of("/?#");
    out.authority = target.substr(0, authority_end);
    target =
        authority_end == std::string_view::npos ? std::string_view{} : target.substr(authority_end);
    if (target.empty() || target.front() != '/') out.path = "/";
  }
  target = target.substr(0, target.find('#'));
  const std::size_t question = target.find('?');
  if (question != 0) out.path = target.empty() ? out.path : target.substr(0, question);
  if (question != std::string_view::npos) {
    out.has_query = true;
    out.query = target.substr(question + 1);
  }
  return out;
}

std::string_view trim(std::string_view text) noexcept {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// A parameter of the first element of Forwarded (RFC 7239 section 4).
std::string_view forwarded_parameter(std::string_view value, std::string_view name) noexcept {
  value = value.substr(0, value.find(','));
  while (!value.empty()) {
    const std::size_t end = value.find(';');
    const std::string_view pair = trim(value.substr(0, end));
    value = end == std::string_view::npos ? std::string_view{} : value.substr(end + 1);
    const std::size_t equals = pair.find('=');
    if (equals == std::string_view::npos || !iequals(trim(pair.substr(0, equals)), name)) continue;
    std::string_view text = trim(pair.substr(equals + 1));
    if (text.size() >= 2 && text.front() == '"' && text.back() == '"') {
      text = text.substr(1, text.size() - 2);
    }
    return text;
  }
  return {};
}

// "192.0.2.1", "192.0.2.1:80", "[2001:db8::1]:80", "2001:db8::1". Empty for "unknown" and
// "_hidden".
std::string_view forwarded_address(std::string_view node) noexcept {
  if (node.empty() || node.front() == '_' || iequals(node, "unknown")) return {};
  if (node.front() != '[' && std::count(node.begin(), node.end(), ':') > 1) return node;
  return split_host(node).host;
}

std::string_view client_of(const HttpFields& f) noexcept {
  const std::string_view node = forwarded_parameter(f.forwarded, "for");
  const std::string_view address = forwarded_address(node);
  if (!address.empty()) return address;
  return forwarded_address(trim(f.x_forwarded_for.substr(0, f.x_forwarded_for.find(','))));
}

// The scheme of the original request (conventions, url.scheme): proxies tell it, else whether
// there is TLS, else the message.
std::string_view scheme_of(const Target& target, const HttpRequest& request, const HttpFields& f,
                           Side side, const Connection& c) noexcept {
  std::string_view scheme = target.scheme;
  if (scheme.empty() && side == Side::server) {
    scheme = forwarded_parameter(f.forwarded, "proto");
    if (scheme.empty()) scheme = trim(f.x_forwarded_proto.substr(0, f.x_forwarded_proto.find(',')));
  }
  if (scheme.empty() && c.encrypted()) return "https";
  if (scheme.empty()) scheme = request.scheme;
  return iequals(scheme, "https") ? "https" : "http";
}

void add_number(AttributeList& out, std::string_view key, int value) {
  out.add(key, static_cast<std::int64_t>(value));
}

void add_server(AttributeList& out, const HostPort& named, int default_port, Side side,
                const Connection& c) {
  if (named.host.empty()) {
    add_server_of_socket(out, c, side);
    return;
  }
  out.add(semconv::kServerAddress, named.host);
  const int port = named.port >= 0 ? named.port : default_port;
  if (port >= 0) add_number(out, semconv::kServerPort, port);
}

void add_query(AttributeList& out, const Target& target) {
  if (!redact::query_has_secret(target.query)) {
    out.add(semconv::kUrlQuery, target.query);
    return;
  }
  std::string clean;
  redact::append_query(clean, target.query);
  out.add(semconv::kUrlQuery, clean);
}

// `scratch` keeps its memory from call to call.
void add_full_url(AttributeList& out, const Target& target, std::string_view scheme,
                  std::string_view authority, bool had_userinfo, const Connection& c,
                  std::string& scratch) {
  scratch.assign(scheme).append("://");
  if (had_userinfo) scratch.append(redact::kRedactedUserinfo).append("@");
  if (!authority.empty()) {
    scratch.append(authority);
  } else if (c.remote.family != Family::none) {
    scratch.append(endpoint_text(c.remote));
  } else {
    scratch.append("localhost");
  }
  if (target.path != "*") scratch.append(target.path);  // RFC 9112 3.2.4
  if (target.has_query) {
    scratch.push_back('?');
    redact::append_query(scratch, target.query);
  }
  out.add(semconv::kUrlFull, scratch);
}

}  // namespace

void add_trace_context(Exchange& x, const HttpFields& f) {
  if (f.traceparent_count != 1) return;
  x.trace_parent = parse_traceparent(f.traceparent);
  if (!x.trace_parent.valid || f.tracestate_count == 0 ||
      f.tracestate_count > f.tracestate.size()) {
    return;
  }
  if (f.tracestate_count == 1) {
    if (valid_tracestate(f.tracestate[0])) x.trace_state = x.attributes.add_text(f.tracestate[0]);
    return;
  }
  std::string joined;
  for (std::size_t i = 0; i < f.tracestate_count; ++i) {
    if (i > 0) joined.push_back(',');
    joined.append(f.tracestate[i]);
  }
  if (valid_tracestate(joined)) x.trace_state = x.attributes.add_text(joined);
}

void add_http_request(Exchange& x, const Connection& c, const HttpRequest& head,
                      const HttpFields& f) {
  static thread_local std::string scratch;
  AttributeList& out = x.attributes;
  const bool known = is_known_method(head.method);
  x.name = out.add_text(known ? head.method : std::string_view("HTTP"));
  if (head.method.data() != nullptr) {
    out.add(semconv::kHttpRequestMethod, known ? head.method : semconv::kHttpMethodOther);
    if (!known) out.add(semconv::kHttpRequestMethodOriginal, head.method);
  }

  Target target = split_target(head.method, head.target);
  const bool target_known = head.target.data() != nullptr;
  if (!head.authority.empty()) target.authority = head.authority;
  const std::string_view scheme = scheme_of(target, head, f, x.side, c);
  bool had_userinfo = false;
  std::string_view authority = redact::strip_userinfo(target.authority, had_userinfo);
  HostPort named = split_host(authority);
  if (named.host.empty() && f.host_count == 1) {
    named = split_host(f.host);
    authority = f.host;
  }
  if (named.host.empty()) authority = {};

  if (x.side == Side::server) {
    if (target_known) out.add(semconv::kUrlPath, target.path);
    if (target.has_query) add_query(out, target);
    out.add(semconv::kUrlScheme, scheme);
  } else if (target_known) {
    add_full_url(out, target, scheme, authority, had_userinfo, c, scratch);
  }
  add_server(out, named, scheme == "https" ? 443 : 80, x.side, c);
  if (x.side == Side::server) {
    const std::string_view client = client_of(f);
    if (client.empty())
      add_client_of_socket(out, c);
    else
      out.add(semconv::kClientAddress, client);
  }
  add_peer(out, c);
  out.add(semconv::kNetworkProtocolVersion, head.version);
  if (f.user_agent.data() != nullptr) out.add(semconv::kUserAgentOriginal, f.user_agent);
  add_trace_context(x, f);
}

void add_http_server(AttributeList& out, std::string_view authority, int default_port, Side side,
                     const Connection& c) {
  bool had_userinfo = false;
  add_server(out, split_host(redact::strip_userinfo(authority, had_userinfo)), default_port, side,
             c);
}

void add_http_outcome(Exchange& x, const HttpOutcome& o) {
  AttributeList& out = x.attributes;
  if (o.request_body >= 0) out.add(semconv::kHttpRequestBodySize, o.request_body);
  if (o.status >= 0) add_number(out, semconv::kHttpResponseStatusCode, o.status);
  if (o.response_body >= 0) out.add(semconv::kHttpResponseBodySize, o.response_body);
  const int first_error = x.side == Side::server ? 500 : 400;
  if (o.status >= first_error) {
    char text[4];
    const auto end = std::to_chars(text, text + sizeof text, o.status).ptr;
    out.add(semconv::kErrorType, std::string_view(text, static_cast<std::size_t>(end - text)));
    x.status = StatusCode::error;
  } else if (!o.error_type.empty()) {
    out.add(semconv::kErrorType, o.error_type);
    x.status = StatusCode::error;
  }
}

bool iequals(std::string_view text, std::string_view lower_case) noexcept {
  if (text.size() != lower_case.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (lower(text[i]) != lower_case[i]) return false;
  }
  return true;
}

bool is_known_method(std::string_view method) noexcept {
  switch (method.size()) {
    case 3:
      return method == "GET" || method == "PUT";
    case 4:
      return method == "POST" || method == "HEAD";
    case 5:
      return method == "PATCH" || method == "TRACE" || method == "QUERY";
    case 6:
      return method == "DELETE";
    case 7:
      return method == "OPTIONS" || method == "CONNECT";
    default:
      return false;
  }
}

}  // namespace olly
