// One instruction as Zydis says it, for those who look at operands. Included by sources only.
#pragma once

#include <Zydis/Zydis.h>

#include <cstdint>

#include "base/bytes.h"
#include "hook/ebpf/tls/code.h"

namespace olly::tls {

// What a called function may change (System V ABI).
inline constexpr std::uint32_t kCallerSaved = kRax | kRcx | kRdx | kRsi | kRdi | 0xf00;

struct Decoded {
  ZydisDecodedInstruction i;
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

inline bool decode_one(ByteView bytes, Decoded& out) noexcept {
  ZydisDecoder decoder;
  ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
  return ZYAN_SUCCESS(
      ZydisDecoderDecodeFull(&decoder, bytes.data(), bytes.size(), &out.i, out.operands));
}

inline std::int8_t number_of(ZydisRegister r) noexcept {
  const ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r);
  if (whole < ZYDIS_REGISTER_RAX || whole > ZYDIS_REGISTER_R15) return kNoRegister;
  return static_cast<std::int8_t>(whole - ZYDIS_REGISTER_RAX);
}

inline std::uint32_t bit_of(std::int8_t number) noexcept {
  return number == kNoRegister ? 0 : 1u << static_cast<unsigned>(number);
}

}  // namespace olly::tls
