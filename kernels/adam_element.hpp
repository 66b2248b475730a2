// The definition of Adam and AdamW for one element: plain IEEE fp32 with explicit fused multiply-adds, compiled by
// the host compiler as the scalar reference and by nvcc as the device kernel.
#pragma once

#include <cstdint>

namespace orlop::kernels {

enum class WeightDecay : std::uint32_t { decoupled /* AdamW */, l2 /* Adam */ };

// What a step needs, rounded to fp32 once from doubles on the host.
struct AdamConstants {
  float grad_scale;             // 1 / loss scale x clip factor; 1 leaves gradients untouched
  float beta1;
  float one_minus_beta1;
  float beta2;
  float one_minus_beta2;
  float step_size;              // lr / (1 - beta1^t)
  float inv_sqrt_correction2;   // 1 / sqrt(1 - beta2^t)
  float eps;
  float decay;                  // decoupled: lr * weight_decay; l2: weight_decay
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

}  // namespace orlop::kernels
