// The roof of the Adam kernels: code that shares nothing with them and moves the same bytes of the same arrays, group
// by group all loads before all stores, with one integer operation where they have the arithmetic.
#pragma once

#include <cstddef>
#include <cstdint>

namespace orlop::bench {

// Every state is read and written back, combined with the gradient under `mask`: 0, which the compiler does not know,
// leaves everything as it was. `count` is a multiple of 128.
struct RoofSpan {
  void* param;
  void* lo;  // null: fp32
  void* exp_avg;
  void* exp_avg_sq;
  const void* grad;
  std::size_t count;
};
using Roof = void (*)(const RoofSpan& span, std::uint32_t mask);

struct Roofs {
  Roof fp32[2];   // left to the hardware's prefetching, and with software's
  Roof split[2];
};
// The same source (adam_roof.cpp) for 16, 32 and 64 byte vectors.
extern const Roofs kRoofs16;
extern const Roofs kRoofs32;
extern const Roofs kRoofs64;

}  // namespace orlop::bench
