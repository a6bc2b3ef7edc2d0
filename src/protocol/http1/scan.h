// Character classes of HTTP/1.x and how far a run of one goes. This is most of what parsing a head
// costs, so sixteen bytes are looked at at once where the machine can (SSE2 is part of x86-64).
// No function reads at or behind `end`.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <string_view>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace olly::http1 {

// RFC 9110 sections 5.5 and 5.6.2.
inline constexpr std::uint8_t kToken = 1;
inline constexpr std::uint8_t kTarget = 2;  // visible, or >= 0x80: raw UTF-8 targets are common
inline constexpr std::uint8_t kValue = 4;   // field-vchar, SP, HTAB

constexpr std::array<std::uint8_t, 256> make_classes() {
  std::array<std::uint8_t, 256> classes{};
  for (int c = 0; c < 256; ++c) {
    std::uint8_t k = 0;
    const bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (alnum) k |= kToken;
    for (const char t : std::string_view("!#$%&'*+-.^_`|~")) {
      if (c == t) k |= kToken;
    }
    if (c > 0x20 && c != 0x7f) k |= kTarget;
    if ((c >= 0x20 && c != 0x7f) || c == '\t') k |= kValue;
    classes[static_cast<std::size_t>(c)] = k;
  }
  return classes;
}
inline constexpr std::array<std::uint8_t, 256> kClasses = make_classes();

inline bool is(std::uint8_t c, std::uint8_t cls) noexcept { return (kClasses[c] & cls) != 0; }

// The first byte in [p, end) outside of the class, or end.
inline const std::uint8_t* skip_class(const std::uint8_t* p, const std::uint8_t* end,
                                      std::uint8_t cls) noexcept {
  while (p < end && is(*p, cls)) ++p;
  return p;
}

#ifdef __SSE2__
namespace detail {

inline __m128i load(const std::uint8_t* p) noexcept {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
inline __m128i all(int c) noexcept { return _mm_set1_epi8(static_cast<char>(c)); }
inline __m128i at_most(__m128i v, int limit) noexcept {  // unsigned
  return _mm_cmpeq_epi8(_mm_min_epu8(v, all(limit)), v);
}
inline unsigned bits(__m128i mask) noexcept {
  return static_cast<unsigned>(_mm_movemask_epi8(mask));
}

// One bit per byte that ends a run. not_token marks the rare token characters too: look again.
inline unsigned not_value(__m128i v) noexcept {
  const __m128i control = _mm_andnot_si128(_mm_cmpeq_epi8(v, all('\t')), at_most(v, 0x1f));
  return bits(_mm_or_si128(control, _mm_cmpeq_epi8(v, all(0x7f))));
}
inline unsigned not_target(__m128i v) noexcept {
  return bits(_mm_or_si128(at_most(v, 0x20), _mm_cmpeq_epi8(v, all(0x7f))));
}
inline unsigned not_token(__m128i v) noexcept {
  const __m128i letter = at_most(_mm_sub_epi8(_mm_or_si128(v, all(0x20)), all('a')), 25);
  const __m128i digit = at_most(_mm_sub_epi8(v, all('0')), 9);
  const __m128i good = _mm_or_si128(_mm_or_si128(letter, digit), _mm_cmpeq_epi8(v, all('-')));
  return bits(good) ^ 0xffffu;
}

template <unsigned (*Stops)(__m128i)>
const std::uint8_t* skip(const std::uint8_t* p, const std::uint8_t* end,
                         std::uint8_t cls) noexcept {
  while (end - p >= 16) {
    const unsigned stops = Stops(load(p));
    if (stops == 0) {
      p += 16;
      continue;
    }
    p += std::countr_zero(stops);
    if (!is(*p, cls)) return p;
    ++p;
  }
  return skip_class(p, end, cls);
}

}  // namespace detail

inline const std::uint8_t* skip_token(const std::uint8_t* p, const std::uint8_t* end) noexcept {
  return detail::skip<detail::not_token>(p, end, kToken);
}
inline const std::uint8_t* skip_target(const std::uint8_t* p, const std::uint8_t* end) noexcept {
  return detail::skip<detail::not_target>(p, end, kTarget);
}
inline const std::uint8_t* skip_value(const std::uint8_t* p, const std::uint8_t* end) noexcept {
  return detail::skip<detail::not_value>(p, end, kValue);
}
#else
inline const std::uint8_t* skip_token(const std::uint8_t* p, const std::uint8_t* end) noexcept {
  return skip_class(p, end, kToken);
}
inline const std::uint8_t* skip_target(const std::uint8_t* p, const std::uint8_t* end) noexcept {
  return skip_class(p, end, kTarget);
}
inline const std::uint8_t* skip_value(const std::uint8_t* p, const std::uint8_t* end) noexcept {
  return skip_class(p, end, kValue);
}
#endif

}  // namespace olly::http1
