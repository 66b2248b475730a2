// The definition of every optimizer for one element: plain IEEE fp32 with explicit fused multiply-adds, compiled by
// the host compiler as the scalar reference and by nvcc as the device kernel. Every other kernel equals it bit for bit.
//
// Adam: Kingma & Ba, "Adam: a method for stochastic optimization" (2015), algorithm 1. AdamW: Loshchilov & Hutter,
// "Decoupled weight decay regularization" (2019), algorithm 2; as in torch.optim.AdamW the schedule multiplier eta is
// part of lr, so a step decays by lr * weight_decay. Order and shape of the operations are chosen for the least
// error against float64 at this count of instructions (note "Rounding").
// Adagrad: Duchi, Hazan & Singer, "Adaptive subgradient methods" (2011), with diagonal matrices, as torch.optim.Adagrad.
// Lion: Chen et al., "Symbolic discovery of optimization algorithms" (2023), algorithm 2.
//
// This header includes nothing that has inline functions: files compiled for one instruction set include it.
#pragma once

#include "kernels/element.hpp"
#include "kernels/optimizer.hpp"

namespace orlop::kernels {

struct Element {
  float param;       // theta, the fp32 master
  float exp_avg;     // m; Adam, Lion
  float exp_avg_sq;  // v: Adam's second moment, Adagrad's sum of squares
};

// Rounding. Written with one constant per moment, 1 - beta, the weights of old and new add up to 1 whatever fp32 makes
// of it; rounding beta2 = 0.999 and 1 - beta2 separately leaves v 1.3e-5 too large for ever. Folding the decay into the
// step rounds theta once per step instead of twice. Root mean square error of the accumulated update against float64
// after 100 / 3000 steps of AdamW (lr 1e-3): 5e-7 / 1.2e-6 of the update for weights of 0.02, where the textbook order
// has 2.9e-6 / 3.0e-5; for weights of 1: 2.4e-5 / 2.2e-5 where it has 1.7e-4 / 6.6e-4.
//
// Extremes. A gradient (after grad_scale) above 5.8e20 makes v infinite, and param NaN in the step after that: loud,
// where beta2 * inf would freeze the element in silence. eps = 0 and a gradient that has always been 0 give 0 / 0.
ORLOP_ELEMENT float adam_direction(Element& e, float g, const StepConstants& c) {
  // m_t = beta1 m_{t-1} + (1 - beta1) g_t; v_t = beta2 v_{t-1} + (1 - beta2) g_t^2 (Adam alg. 1; AdamW alg. 2 lines 7-8)
  e.exp_avg = fused(c.one_minus_beta1, g, fused(-c.one_minus_beta1, e.exp_avg, e.exp_avg));
  e.exp_avg_sq =
      fused(product(c.one_minus_beta2, g), g, fused(-c.one_minus_beta2, e.exp_avg_sq, e.exp_avg_sq));
  // m^ / (sqrt(v^) + eps), with 1 / (1 - beta1^t) left to step_size (lines 9-10)
  return quotient(e.exp_avg, fused(square_root(e.exp_avg_sq), c.inv_sqrt_correction2, c.eps));
}

// Sums of squares only grow: one that has become infinite stops its element. eps = 0 and a gradient that has always been 0
// give 0 / 0.
ORLOP_ELEMENT float adagrad_direction(Element& e, float g, const StepConstants& c) {
  e.exp_avg_sq = fused(g, g, e.exp_avg_sq);
  return quotient(g, sum(square_root(e.exp_avg_sq), c.eps));
}

// 1 with the value's sign; a zero or NaN is left as it is.
ORLOP_ELEMENT float sign_of(float value) {
  if (!(value < 0 || value > 0)) return value;
  return value < 0 ? -1.0f : 1.0f;
}

// A moment that is not finite makes the direction NaN: both are made of the same terms.
ORLOP_ELEMENT float lion_direction(Element& e, float g, const StepConstants& c) {
  const float direction = sign_of(fused(c.one_minus_beta1, g, fused(-c.one_minus_beta1, e.exp_avg, e.exp_avg)));
  e.exp_avg = fused(c.one_minus_beta2, g, fused(-c.one_minus_beta2, e.exp_avg, e.exp_avg));
  return direction;
}

// States that a rule has not are left as they are.
template <Rule kRule>
ORLOP_ELEMENT Element update_element(Element e, float grad, const StepConstants& c) {
  float g = product(grad, c.grad_scale);
  if constexpr (!is_decoupled(kRule)) g = fused(c.decay, e.param, g);  // AdamW alg. 2 line 6; Adam's g_t
  float direction = 0;
  if constexpr (kRule == Rule::adagrad) {
    direction = adagrad_direction(e, g, c);
  } else if constexpr (kRule == Rule::lion) {
    direction = lion_direction(e, g, c);
  } else {
    direction = adam_direction(e, g, c);
  }
  if constexpr (is_decoupled(kRule)) direction = fused(c.decay, e.param, direction);
  e.param = fused(-c.step_size, direction, e.param);  // AdamW alg. 2 line 12
  // A NaN in a state makes param NaN, too.
  if (!is_nan_bits(bits_of(e.param))) return e;
  return {float_of(kCanonicalNan), canonical(e.exp_avg), canonical(e.exp_avg_sq)};
}

}  // namespace orlop::kernels
