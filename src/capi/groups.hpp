// Optimizer groups as callers give them.
#pragma once

#include "capi/boundary.hpp"
#include "kernels/optimizer.hpp"

namespace orlop::capi {

inline Result<kernels::Optimizer> optimizer_of(const char* call, std::int32_t value) {
  if (value >= ORLOP_OPTIMIZER_ADAM && value <= ORLOP_OPTIMIZER_EXTERNAL) return static_cast<kernels::Optimizer>(value);
  return fail(ORLOP_INVALID_ARGUMENT, "{}: on optimizer {}: there is none of that number", call, value);
}

inline Result<kernels::HyperParams> hyper_params_of(const char* call, const orlop_group_params* params) {
  TRY_ASSIGN(const orlop_group_params given, read_struct(call, params));
  TRY_ASSIGN(const kernels::Optimizer optimizer, optimizer_of(call, given.optimizer));
  return kernels::HyperParams{.lr = given.lr,
                              .beta1 = given.beta1,
                              .beta2 = given.beta2,
                              .eps = given.eps,
                              .weight_decay = given.weight_decay,
                              .decoupled = given.decoupled_weight_decay != 0,
                              .bias_correction = given.bias_correction != 0,
                              .optimizer = optimizer,
                              .lr_decay = given.lr_decay};
}

}  // namespace orlop::capi
