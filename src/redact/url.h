// Secrets in URLs, as the semantic conventions 1.44 ask (attribute registry, url.full and
// url.query): credentials become REDACTED:REDACTED, and so do the values of the query keys
// X-Amz-Signature, X-Amz-Credential, X-Amz-Security-Token, sig, X-Goog-Signature (case-sensitive; a
// key that is percent-encoded counts as what it decodes to).
#pragma once

#include <string>
#include <string_view>

namespace olly::redact {

inline constexpr std::string_view kRedacted = "REDACTED";
inline constexpr std::string_view kRedactedUserinfo = "REDACTED:REDACTED";

// Whether append_query would change anything: lets callers store the original without a copy.
bool query_has_secret(std::string_view query) noexcept;

// Appends `query` (without its '?') with the secret values replaced.
void append_query(std::string& out, std::string_view query);

// `authority` without its userinfo and '@'; `had_userinfo` says whether there was any.
std::string_view strip_userinfo(std::string_view authority, bool& had_userinfo) noexcept;

}  // namespace olly::redact
