// The Adam kernel on a CUDA device: kernels/adam_element.hpp in a grid. Bit for bit what the CPU kernels compute.
#pragma once

#include "kernels/adam_element.hpp"
#include "kernels/adam_span.hpp"

namespace orlop::kernels {

// Updates the span in place, asynchronously, in the order of `stream` (a cudaStream_t). Pointers are the device's or
// mapped host memory; spans whose planes start 16-byte aligned are fastest. Returns a cudaError_t: 0 when launched.
[[nodiscard]] int launch_adam(Master master, GradType grad, const AdamSpan& span, const AdamConstants& constants,
                              void* stream);

}  // namespace orlop::kernels
