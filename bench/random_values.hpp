// Values that depend on nothing but (seed, stream, index): the same on every machine, for any number of threads.
#pragma once

#include <cstdint>

#include "cpu_adam/adam.hpp"
#include "zero3/param.hpp"

namespace orlop::bench {

// Names a sequence of values. `stream` keeps sequences of one seed apart.
struct Sequence {
  std::uint64_t seed;
  std::uint64_t stream;
};

// Fills `destination` with `count` values, evenly spread over [-2^exponent, 2^exponent), in fp32 or bf16.
void fill_random(const cpu_adam::Workers& workers, Sequence sequence, int exponent, zero3::Dtype dtype,
                 void* destination, std::uint64_t count);

}  // namespace orlop::bench
