#include <cmath>

#include "kernels/float_environment.hpp"
#include "kernels/optimizer.hpp"

namespace orlop::kernels {
namespace {

// 1 - beta^t without cancellation: for beta2 = 0.999 at t = 1 the difference has 10 bits less than its operands.
double correction(double beta, std::uint64_t t, bool bias_correction) {
  if (!bias_correction || beta == 0) return 1;
  return -std::expm1(static_cast<double>(t) * std::log(beta));
}

Rule rule_of(const HyperParams& hyper) {
  switch (hyper.optimizer) {
    case Optimizer::adagrad: return Rule::adagrad;
    case Optimizer::lion: return Rule::lion;
    default: return hyper.decoupled ? Rule::adamw : Rule::adam;
  }
}

double step_size(const HyperParams& hyper, Rule rule, std::uint64_t t, double correction1) {
  switch (rule) {
    case Rule::adagrad: return hyper.lr / (1 + static_cast<double>(t - 1) * hyper.lr_decay);
    case Rule::lion: return hyper.lr;
    default: return hyper.lr / correction1;
  }
}

}  // namespace

StepConstants make_constants(const HyperParams& hyper, std::uint64_t t, double grad_scale) {
  const FloatEnvironment environment;
  const double correction1 = correction(hyper.beta1, t, hyper.bias_correction);
  const double correction2 = correction(hyper.beta2, t, hyper.bias_correction);
  const Rule rule = rule_of(hyper);
  return {
      .grad_scale = static_cast<float>(grad_scale),
      .one_minus_beta1 = static_cast<float>(1 - hyper.beta1),
      .one_minus_beta2 = static_cast<float>(1 - hyper.beta2),
      .step_size = static_cast<float>(step_size(hyper, rule, t, correction1)),
      .inv_sqrt_correction2 = static_cast<float>(1 / std::sqrt(correction2)),
      .eps = static_cast<float>(hyper.eps),
      .decay = static_cast<float>(rule == Rule::adamw ? hyper.weight_decay * correction1 : hyper.weight_decay),
      .rule = rule,
  };
}

}  // namespace orlop::kernels
