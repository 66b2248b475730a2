// Where the planes of a range of elements are, for every kernel. Includes nothing that has inline functions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace orlop::kernels {

// How a parameter and its fp32 master are stored.
enum class Master : std::uint8_t {
  itself,    // fp32 parameter: `param` is the master
  split,     // bf16 parameter: master = (param << 16) + lo (see element.hpp)
  separate,  // fp16 parameter: `master` in fp32, `param` rounded to nearest even from it
};

enum class GradType : std::uint8_t { f32, bf16, f16 };

// Pointers to one range of elements of a block's planes, aligned to their elements. Unused planes are null.
struct PlaneSpan {
  void* param;        // float*, bf16 or fp16 bits as uint16_t*
  std::int16_t* lo;   // Master::split
  float* master;      // Master::separate
  float* exp_avg;     // where the optimizer has it
  float* exp_avg_sq;  // likewise
  const void* grad;
  std::size_t count;
};

}  // namespace orlop::kernels
