// The arithmetic's words: where a block's planes are in memory and what is done with them. Includes nothing that has
// inline functions: files compiled for one instruction set include it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/optimizer.hpp"
#include "kernels/plane_span.hpp"

namespace orlop::cpu_adam {

enum class Isa : std::uint8_t { scalar, avx2, avx512 };

using kernels::PlaneSpan;
using kernels::GradType;
using kernels::Master;

// XXH3_64bits of the state planes of one chunk (those which the store holds; 0 for planes that are null above).
struct ChunkSums {
  std::uint64_t lo = 0;
  std::uint64_t master = 0;
  std::uint64_t exp_avg = 0;
  std::uint64_t exp_avg_sq = 0;
  friend bool operator==(const ChunkSums&, const ChunkSums&) = default;
};

// A stretch of equal hyper-parameters inside a span; stretches follow each other and cover it, lengths in multiples of
// 1024 elements except the last.
struct Stretch {
  std::size_t count;
  const kernels::StepConstants* constants;
};

// Gradient intake replaces what is there (the first micro-batch) or adds to it.
enum class Intake : std::uint8_t { store, add };

}  // namespace orlop::cpu_adam
