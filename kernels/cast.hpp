// Cast: arrays between fp32, bf16 and fp16 on a CUDA device, to nearest even, as kernels/element.hpp
// defines it.
#pragma once

#include <cstdint>

#include "kernels/element_type.hpp"

namespace orlop::kernels {

// Asynchronous in `stream` (a cudaStream_t) on the current device. Arrays do not overlap; each is aligned to
// its elements (16 bytes are fastest). NaNs become the canonical one. Returns a cudaError_t: 0, or why the
// launch failed.
int launch_cast(ElementType to, void* destination, ElementType from, const void* source, std::uint64_t count,
                void* stream);

}  // namespace orlop::kernels
