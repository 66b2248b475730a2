// Which optimizers there are, which states each keeps, and the numbers that one update of it needs. Includes nothing
// that has inline functions of the standard library.
#pragma once

#include <cstdint>

#include "kernels/host_device.hpp"

namespace orlop::kernels {

// What an engine trains with; it decides which states there are.
enum class Optimizer : std::uint8_t {
  adam,      // exp_avg, exp_avg_sq
  adagrad,   // exp_avg_sq: the sum of squared gradients
  lion,      // exp_avg
  external,  // none: the program applies updates itself
};

// The arithmetic of one element. Groups of one engine may differ only as adamw and adam do.
enum class Rule : std::uint8_t { adamw, adam, adagrad, lion };

ORLOP_ELEMENT constexpr Optimizer optimizer_of(Rule rule) {
  return rule == Rule::lion ? Optimizer::lion : rule == Rule::adagrad ? Optimizer::adagrad : Optimizer::adam;
}
ORLOP_ELEMENT constexpr bool has_exp_avg(Optimizer optimizer) {
  return optimizer == Optimizer::adam || optimizer == Optimizer::lion;
}
ORLOP_ELEMENT constexpr bool has_exp_avg_sq(Optimizer optimizer) {
  return optimizer == Optimizer::adam || optimizer == Optimizer::adagrad;
}
ORLOP_ELEMENT constexpr bool has_exp_avg(Rule rule) { return has_exp_avg(optimizer_of(rule)); }
ORLOP_ELEMENT constexpr bool has_exp_avg_sq(Rule rule) { return has_exp_avg_sq(optimizer_of(rule)); }

// Weight decay is added to the gradient (L2 regularisation), or shrinks the parameter beside the update (decoupled).
ORLOP_ELEMENT constexpr bool is_decoupled(Rule rule) { return rule == Rule::adamw || rule == Rule::lion; }

// A parameter group's values as people write them.
struct HyperParams {
  double lr;
  double beta1;
  double beta2;
  double eps;
  double weight_decay;
  bool decoupled;
  bool bias_correction;                  // Adam
  Optimizer optimizer = Optimizer::adam;
  double lr_decay = 0;                   // Adagrad
};

// What a step needs, rounded to fp32 once from doubles on the host.
struct StepConstants {
  float grad_scale;            // 1 / loss scale x clip factor; 1 leaves gradients untouched
  float one_minus_beta1;
  float one_minus_beta2;
  float step_size;             // Adam: lr / (1 - beta1^t); Adagrad: lr / (1 + (t - 1) lr_decay); Lion: lr
  float inv_sqrt_correction2;  // Adam: 1 / sqrt(1 - beta2^t)
  float eps;
  float decay;                 // AdamW: weight_decay * (1 - beta1^t), which step_size turns into lr * weight_decay;
                               // others: weight_decay
  Rule rule;
};

// t counts updates from 1. In double throughout, then rounded once.
StepConstants make_constants(const HyperParams& hyper, std::uint64_t t, double grad_scale);

}  // namespace orlop::kernels
