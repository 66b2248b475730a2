// Norm and finite check of a gradient on a CUDA device, in one pass.
#pragma once

#include <cstdint>

#include "kernels/element_type.hpp"

namespace orlop::kernels {

// Squares are summed over blocks of this many elements, the last one shorter.
inline constexpr std::uint64_t kSquaresBlock = 1024;

constexpr std::uint64_t squares_block_count(std::uint64_t count) {
  return count / kSquaresBlock + (count % kSquaresBlock != 0);
}

// Writes the sum of squares of block b to partials[b], in double and in the shape that the CPU has: element i
// of a block goes to lane i mod 16, the lanes are added as a tree. Sets *finite to 0 if an element is not
// finite and leaves it alone otherwise. Partials, `finite` and values are device memory. Asynchronous in
// `stream` (a cudaStream_t) on the current device. Returns a cudaError_t: 0, or why the launch failed.
int launch_norm_finite(ElementType type, const void* values, std::uint64_t count, double* partials,
                       std::uint32_t* finite, void* stream);

}  // namespace orlop::kernels
