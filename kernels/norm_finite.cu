#include <cuda_runtime.h>

#include "kernels/element_io.cuh"
#include "kernels/norm_finite.hpp"

namespace orlop::kernels {
namespace {

constexpr unsigned kLanes = 16;
constexpr unsigned kThreads = 256;
constexpr unsigned kBlocksPerGroup = kThreads / kLanes;  // blocks of elements that one thread block takes
constexpr unsigned kUnroll = 8;                          // loads in flight per thread

// What a lane adds of one block. The square of a float is exact in double, so that fma and multiply-then-add
// agree.
template <ElementType kType>
__device__ double sum_lane(const Stored<kType>* values, unsigned lane, unsigned count) {
  double sum = 0.0;
#pragma unroll kUnroll
  for (unsigned i = lane; i < count; i += kLanes) {
    const auto value = static_cast<double>(to_float<kType>(values[i]));
    sum = __dadd_rn(sum, __dmul_rn(value, value));
  }
  return sum;
}

// A half-warp adds its lanes: 0 + 8, 1 + 9, ... then 0 + 4, ...; what counts ends in lane 0.
__device__ double add_lanes(double sum) {
#pragma unroll
  for (unsigned width = kLanes / 2; width != 0; width /= 2) {
    sum = __dadd_rn(sum, __shfl_down_sync(0xffffffffu, sum, width, kLanes));
  }
  return sum;
}

template <ElementType kType>
__global__ void __launch_bounds__(kThreads)
    norm_finite_kernel(const Stored<kType>* __restrict__ values, std::uint64_t count,
                       double* __restrict__ partials, std::uint32_t* __restrict__ finite) {
  const unsigned lane = threadIdx.x % kLanes;
  const std::uint64_t block = static_cast<std::uint64_t>(blockIdx.x) * kBlocksPerGroup + threadIdx.x / kLanes;
  const std::uint64_t begin = block * kSquaresBlock;
  const bool is_block = begin < count;
  const std::uint64_t left = is_block ? count - begin : 0;
  const auto length = static_cast<unsigned>(left < kSquaresBlock ? left : kSquaresBlock);

  const double sum = add_lanes(sum_lane<kType>(values + (is_block ? begin : 0), lane, length));
  if (lane != 0 || !is_block) return;
  partials[block] = sum;
  // 1024 squares of finite floats stay below 2^267: only an infinity or a NaN makes the sum not finite. Every
  // thread that gets here writes the same.
  if (!isfinite(sum)) *finite = 0;
}

template <ElementType kType>
cudaError_t launch(const void* values, std::uint64_t count, double* partials, std::uint32_t* finite,
                   cudaStream_t stream) {
  cudaLaunchConfig_t config = {};
  config.gridDim =
      dim3(static_cast<unsigned>((squares_block_count(count) + kBlocksPerGroup - 1) / kBlocksPerGroup));
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, norm_finite_kernel<kType>, static_cast<const Stored<kType>*>(values),
                            count, partials, finite);
}

}  // namespace

int launch_norm_finite(ElementType type, const void* values, std::uint64_t count, double* partials,
                       std::uint32_t* finite, void* stream) {
  if (count == 0) return cudaSuccess;
  auto* const in = static_cast<cudaStream_t>(stream);
  switch (type) {
    case ElementType::f32:
      return launch<ElementType::f32>(values, count, partials, finite, in);
    case ElementType::bf16:
      return launch<ElementType::bf16>(values, count, partials, finite, in);
    case ElementType::f16:
      return launch<ElementType::f16>(values, count, partials, finite, in);
  }
  return cudaErrorInvalidValue;
}

}  // namespace orlop::kernels
