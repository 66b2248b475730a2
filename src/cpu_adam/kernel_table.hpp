// What each instruction set's file exports: one table, and nothing else. Includes nothing that has inline functions.
#pragma once

#include "cpu_adam/spans.hpp"

namespace orlop::cpu_adam {

inline constexpr std::size_t kMasters = 3;
inline constexpr std::size_t kGradTypes = 3;

// Squares are summed over blocks of this many elements, the last of a span excepted.
inline constexpr std::size_t kSquaresBlock = 1024;

struct KernelTable {
  using Update = void (*)(const PlaneSpan& span, const Stretch* stretches, std::size_t stretch_count,
                          ChunkSums* before, ChunkSums* after);
  using Sums = ChunkSums (*)(const PlaneSpan& span);
  // At most kSquaresBlock elements; returns the sum of the squares of the result, not finite if one of them is not.
  using TakeGrad = double (*)(void* destination, const void* source, std::size_t count);
  using Squares = double (*)(const void* gradient, std::size_t count);

  Isa isa;  // what the file that this table comes from was compiled for
  Update update[kMasters][kGradTypes];
  Sums sums;
  TakeGrad intake[2][kGradTypes][kGradTypes];  // Intake, destination, source
  Squares squares[kGradTypes];
};

extern const KernelTable kScalarKernels;
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;

}  // namespace orlop::cpu_adam
