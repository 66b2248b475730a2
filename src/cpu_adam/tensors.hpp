// Tensors: arrays of a program that keeps its optimizer's states itself, updated without an engine.
#pragma once

#include <cstddef>
#include <span>

#include "cpu_adam/adam.hpp"

namespace orlop::cpu_adam {

using ElementType = GradType;

// One parameter with its gradient and states: arrays of `count` elements. States that the optimizer has not are null. A
// 16-bit array is what it is rounded to after the update (to nearest even): it has no master.
struct Tensor {
  void* param;
  const void* grad;
  void* exp_avg;
  void* exp_avg_sq;
  ElementType param_type;
  ElementType grad_type;
  ElementType state_type;
  std::size_t count;
  kernels::StepConstants constants;
};

// Updates every tensor by kernels/update_element.hpp in fp32. `workers` share the elements of all of them; without any
// this thread does all. The bits depend on neither, nor on the instruction set. Tensors must not overlap.
void update_tensors(Isa isa, const Workers* workers, std::span<const Tensor> tensors);

}  // namespace orlop::cpu_adam
