// The definition of Adam and AdamW for one element: plain IEEE fp32 with explicit fused multiply-adds, compiled by
// the host compiler as the scalar reference and by nvcc as the device kernel. Every other kernel equals it bit for bit.
//
// Adam: Kingma & Ba, "Adam: a method for stochastic optimization" (2015), algorithm 1. AdamW: Loshchilov & Hutter,
// "Decoupled weight decay regularization" (2019), algorithm 2; as in torch.optim.AdamW the schedule multiplier eta is
// part of lr, so a step decays by lr * weight_decay. Order and shape of the operations are chosen for the least
// error against float64 at this count of instructions (note "Rounding" at adam_element).
//
// This header includes nothing that has inline functions: files compiled for one instruction set include it.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)
#define ORLOP_ELEMENT __host__ __device__ inline
#else
#define ORLOP_ELEMENT inline
#endif

namespace orlop::kernels {

enum class WeightDecay : std::uint32_t { decoupled /* AdamW */, l2 /* Adam */ };

// What a step needs, rounded to fp32 once from doubles on the host.
struct AdamConstants {
  float grad_scale;            // 1 / loss scale x clip factor; 1 leaves gradients untouched
  float one_minus_beta1;
  float one_minus_beta2;
  float step_size;             // lr / (1 - beta1^t)
  float inv_sqrt_correction2;  // 1 / sqrt(1 - beta2^t)
  float eps;
  float decay;                 // decoupled: weight_decay * (1 - beta1^t), which step_size turns into lr * weight_decay;
                               // l2: weight_decay
  WeightDecay weight_decay;
};

struct AdamHyper {
  double lr;
  double beta1;
  double beta2;
  double eps;
  double weight_decay;
  bool decoupled;
  bool bias_correction;
};

// t counts updates from 1. In double throughout, then rounded once.
AdamConstants make_constants(const AdamHyper& hyper, std::uint64_t t, double grad_scale);

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

// ---- The step ----

struct AdamElement {
  float param;       // theta, the fp32 master
  float exp_avg;     // m
  float exp_avg_sq;  // v
};

// Rounding. Written with one constant per moment, 1 - beta, the weights of old and new add up to 1 whatever fp32 makes
// of it; rounding beta2 = 0.999 and 1 - beta2 separately leaves v 1.3e-5 too large for ever. Folding the decay into the
// step rounds theta once per step instead of twice. Root mean square error of the accumulated update against float64
// after 100 / 3000 steps of AdamW (lr 1e-3): 5e-7 / 1.2e-6 of the update for weights of 0.02, where the textbook order
// has 2.9e-6 / 3.0e-5; for weights of 1: 2.4e-5 / 2.2e-5 where it has 1.7e-4 / 6.6e-4.
//
// Extremes. A gradient (after grad_scale) above 5.8e20 makes v infinite, and param NaN in the step after that: loud,
// where beta2 * inf would freeze the element in silence. eps = 0 and a gradient that has always been 0 give 0 / 0.
ORLOP_ELEMENT AdamElement adam_element(AdamElement old, float grad, const AdamConstants& c) {
  float g = product(grad, c.grad_scale);
  if (c.weight_decay == WeightDecay::l2) g = fused(c.decay, old.param, g);  // AdamW alg. 2 line 6; Adam's g_t
  // m_t = beta1 m_{t-1} + (1 - beta1) g_t; v_t = beta2 v_{t-1} + (1 - beta2) g_t^2 (Adam alg. 1; AdamW alg. 2 lines 7-8)
  const float m = fused(c.one_minus_beta1, g, fused(-c.one_minus_beta1, old.exp_avg, old.exp_avg));
  const float v =
      fused(product(c.one_minus_beta2, g), g, fused(-c.one_minus_beta2, old.exp_avg_sq, old.exp_avg_sq));
  // m^ / (sqrt(v^) + eps), with 1 / (1 - beta1^t) left to step_size (lines 9-10)
  float update = quotient(m, fused(square_root(v), c.inv_sqrt_correction2, c.eps));
  if (c.weight_decay == WeightDecay::decoupled) update = fused(c.decay, old.param, update);
  const float param = fused(-c.step_size, update, old.param);  // line 12
  // A NaN in m or v makes param NaN, too.
  if (!is_nan_bits(bits_of(param))) return {param, m, v};
  return {float_of(kCanonicalNan), canonical(m), canonical(v)};
}

}  // namespace orlop::kernels
