// The arithmetic's words: where a block's planes are in memory and what is done with them. Includes nothing that has
// inline functions: files compiled for one instruction set include it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/adam_element.hpp"

namespace orlop::cpu_adam {

enum class Isa : std::uint8_t { scalar, avx2, avx512 };

// How a parameter and its fp32 master are stored.
enum class Master : std::uint8_t {
  itself,    // fp32 parameter: `param` is the master
  split,     // bf16 parameter: master = (param << 16) + lo (see kernels/adam_element.hpp)
  separate,  // fp16 parameter: `master` in fp32, `param` rounded to nearest even from it
};

enum class GradType : std::uint8_t { f32, bf16, f16 };

// Pointers to one range of elements of a block's planes. Ranges start at multiples of 1024 elements of the block.
// Unused planes are null.
struct AdamSpan {
  void* param;          // float*, bf16 or fp16 bits as uint16_t*
  std::int16_t* lo;     // Master::split
  float* master;        // Master::separate
  float* exp_avg;
  float* exp_avg_sq;
  const void* grad;
  std::size_t count;
};

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
struct AdamStretch {
  std::size_t count;
  const kernels::AdamConstants* constants;
};

// Gradient intake replaces what is there (the first micro-batch) or adds to it.
enum class Intake : std::uint8_t { store, add };

}  // namespace orlop::cpu_adam
