// Arithmetic on one element that rounds once and does not depend on who compiles it: the host's compiler or nvcc. Also how
// an fp32 master is kept in two halves, and how the 16-bit types convert.
//
// This header includes nothing that has inline functions: files compiled for one instruction set include it.
#pragma once

#include <cstdint>

#include "kernels/host_device.hpp"

namespace orlop::kernels {

// ---- Operations that round once ----

ORLOP_ELEMENT float fused(float a, float b, float c) {  // a * b + c
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}

ORLOP_ELEMENT float product(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

ORLOP_ELEMENT float sum(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fadd_rn(a, b);
#else
  return a + b;
#endif
}

ORLOP_ELEMENT float quotient(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fdiv_rn(a, b);
#else
  return a / b;
#endif
}

ORLOP_ELEMENT float square_root(float a) {
#if defined(__CUDA_ARCH__)
  return __fsqrt_rn(a);
#else
  return __builtin_sqrtf(a);
#endif
}

ORLOP_ELEMENT std::uint32_t bits_of(float value) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(value);
#else
  return __builtin_bit_cast(std::uint32_t, value);
#endif
}

ORLOP_ELEMENT float float_of(std::uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  return __builtin_bit_cast(float, bits);
#endif
}

// ---- NaN ----

// The only NaN a kernel writes. Processors disagree about sign and payload of the NaNs they make and pass on, and the
// split master could not tell a NaN with low bits only from an infinity.
inline constexpr std::uint32_t kCanonicalNan = 0x7fc00000u;
inline constexpr std::uint16_t kCanonicalNanBf16 = 0x7fc0u;
inline constexpr std::uint16_t kCanonicalNanF16 = 0x7e00u;

ORLOP_ELEMENT bool is_nan_bits(std::uint32_t bits) { return (bits & 0x7fffffffu) > 0x7f800000u; }

ORLOP_ELEMENT float canonical(float value) {
  return is_nan_bits(bits_of(value)) ? float_of(kCanonicalNan) : value;
}

// ---- The split master ----
//
// An fp32 master in two 16-bit planes: `param`, its upper half rounded half up (away from zero), which is the bf16
// parameter itself, and `lo`, what is left, in [-0x8000, 0x7fff]. Both directions are integer arithmetic modulo 2^32, so
// that the pair names the master exactly, whatever it is:
//   - finite: param is the nearest bf16, ties away from zero;
//   - from 0x7f7f8000 on (3.39e38, either sign) rounding carries into the exponent: param is infinite as in any
//     conversion to bf16, lo is negative, and joining them gives the finite master back;
//   - infinite: lo is 0;
//   - NaN: 0x7fc0 and 0 (rounding would make a zero of 0x7fffffff).

struct SplitMaster {
  std::uint16_t param;
  std::int16_t lo;
};

ORLOP_ELEMENT SplitMaster split_master(float master) {
  const std::uint32_t bits = bits_of(canonical(master));
  const std::uint32_t hi = (bits + 0x8000u) >> 16;
  return {static_cast<std::uint16_t>(hi), static_cast<std::int16_t>(static_cast<std::uint16_t>(bits - (hi << 16)))};
}

ORLOP_ELEMENT float join_master(std::uint16_t param, std::int16_t lo) {
  return float_of((static_cast<std::uint32_t>(param) << 16) + static_cast<std::uint32_t>(static_cast<std::int32_t>(lo)));
}

// ---- Conversions, rounding to nearest even ----

ORLOP_ELEMENT float float_of_bf16(std::uint16_t value) { return float_of(static_cast<std::uint32_t>(value) << 16); }

ORLOP_ELEMENT std::uint16_t bf16_of_float(float value) {
  const std::uint32_t bits = bits_of(canonical(value));
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

ORLOP_ELEMENT float float_of_f16(std::uint16_t value) {
  const std::uint32_t sign = static_cast<std::uint32_t>(value & 0x8000u) << 16;
  const std::uint32_t rest = value & 0x7fffu;
  if (rest >= 0x7c00u) return float_of(rest == 0x7c00u ? sign | 0x7f800000u : kCanonicalNan);
  // Denormals are multiples of 2^-24, exact in fp32.
  if (rest < 0x0400u) return float_of(sign | bits_of(product(static_cast<float>(rest), 5.9604644775390625e-8f)));
  return float_of(sign | ((rest << 13) + (112u << 23)));
}

ORLOP_ELEMENT std::uint16_t f16_of_float(float value) {
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t rest = bits & 0x7fffffffu;
  if (rest > 0x7f800000u) return kCanonicalNanF16;
  if (rest >= 0x47800000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // 65536 and more
  if (rest < 0x38800000u) {  // below 2^-14: adding 0.5 rounds to multiples of 2^-24, and carries as it should
    const std::uint32_t sum = bits_of(float_of(rest) + 0.5f);
    return static_cast<std::uint16_t>(sign | (sum - 0x3f000000u));
  }
  const std::uint32_t rounded = rest + 0xfffu + ((rest >> 13) & 1u);  // 65520 and more carry into infinity
  return static_cast<std::uint16_t>(sign | ((rounded - (112u << 23)) >> 13));
}

}  // namespace orlop::kernels
