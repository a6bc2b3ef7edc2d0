// What versions and cipher suites of TLS are called (RFC 8446 4.2.1; IANA's registry of cipher
// suites).
#pragma once

#include <cstdint>
#include <string_view>

namespace olly {

// "1.3"; empty when not known.
std::string_view tls_version_text(std::uint16_t version) noexcept;
// IANA's name, "TLS_AES_128_GCM_SHA256"; empty where it is not in our table.
std::string_view tls_cipher_name(std::uint16_t cipher) noexcept;

}  // namespace olly
