// The optimizers on a CUDA device: kernels/update_element.hpp in a grid. Bit for bit what the CPU kernels compute.
#pragma once

#include "kernels/optimizer.hpp"
#include "kernels/plane_span.hpp"

namespace orlop::kernels {

// Updates the span in place, asynchronously, in the order of `stream` (a cudaStream_t). Pointers are the device's or
// mapped host memory; spans whose planes start 16-byte aligned are fastest. Returns a cudaError_t: 0 when launched.
[[nodiscard]] int launch_update(Master master, GradType grad, const PlaneSpan& span, const StepConstants& constants,
                              void* stream);

}  // namespace orlop::kernels
