#include <cuda_runtime.h>

#include "kernels/cast.hpp"
#include "kernels/element_io.cuh"

namespace orlop::kernels {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kPerThread = 8;

// Elements that move in one access, or in two of 16 bytes.
template <typename T>
struct alignas(sizeof(T) * kPerThread > 16 ? 16 : sizeof(T) * kPerThread) Pack {
  T elements[kPerThread];
};

enum class Access : std::uint8_t { packs, elements };

template <ElementType kTo, ElementType kFrom>
__device__ void cast_pack(Stored<kTo>* destination, const Stored<kFrom>* source) {
  const auto in = *reinterpret_cast<const Pack<Stored<kFrom>>*>(source);
  Pack<Stored<kTo>> out;
#pragma unroll
  for (unsigned i = 0; i != kPerThread; ++i)
    out.elements[i] = from_float<kTo>(to_float<kFrom>(in.elements[i]));
  *reinterpret_cast<Pack<Stored<kTo>>*>(destination) = out;
}

template <ElementType kTo, ElementType kFrom, Access kAccess>
__global__ void __launch_bounds__(kThreads)
    cast_kernel(Stored<kTo>* __restrict__ destination, const Stored<kFrom>* __restrict__ source,
                std::uint64_t count) {
  const std::uint64_t begin = (static_cast<std::uint64_t>(blockIdx.x) * kThreads + threadIdx.x) * kPerThread;
  if (kAccess == Access::packs && begin + kPerThread <= count) {
    cast_pack<kTo, kFrom>(destination + begin, source + begin);
    return;
  }
  for (std::uint64_t i = begin; i < count && i < begin + kPerThread; ++i) {
    destination[i] = from_float<kTo>(to_float<kFrom>(source[i]));
  }
}

template <ElementType kTo, ElementType kFrom>
cudaError_t launch(void* destination, const void* source, std::uint64_t count, cudaStream_t stream) {
  auto* const to = static_cast<Stored<kTo>*>(destination);
  const auto* const from = static_cast<const Stored<kFrom>*>(source);
  const bool is_packed = reinterpret_cast<std::uintptr_t>(to) % alignof(Pack<Stored<kTo>>) == 0 &&
                         reinterpret_cast<std::uintptr_t>(from) % alignof(Pack<Stored<kFrom>>) == 0;
  constexpr std::uint64_t kPerBlock = kThreads * kPerThread;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>((count + kPerBlock - 1) / kPerBlock));
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  return is_packed ? cudaLaunchKernelEx(&config, cast_kernel<kTo, kFrom, Access::packs>, to, from, count)
                   : cudaLaunchKernelEx(&config, cast_kernel<kTo, kFrom, Access::elements>, to, from, count);
}

template <ElementType kTo>
cudaError_t launch_from(ElementType from, void* destination, const void* source, std::uint64_t count,
                        cudaStream_t stream) {
  switch (from) {
    case ElementType::f32:
      return launch<kTo, ElementType::f32>(destination, source, count, stream);
    case ElementType::bf16:
      return launch<kTo, ElementType::bf16>(destination, source, count, stream);
    case ElementType::f16:
      return launch<kTo, ElementType::f16>(destination, source, count, stream);
  }
  return cudaErrorInvalidValue;
}

cudaError_t launch_to(ElementType to, ElementType from, void* destination, const void* source,
                      std::uint64_t count, cudaStream_t stream) {
  switch (to) {
    case ElementType::f32:
      return launch_from<ElementType::f32>(from, destination, source, count, stream);
    case ElementType::bf16:
      return launch_from<ElementType::bf16>(from, destination, source, count, stream);
    case ElementType::f16:
      return launch_from<ElementType::f16>(from, destination, source, count, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace

int launch_cast(ElementType to, void* destination, ElementType from, const void* source, std::uint64_t count,
                void* stream) {
  if (count == 0) return cudaSuccess;
  return launch_to(to, from, destination, source, count, static_cast<cudaStream_t>(stream));
}

}  // namespace orlop::kernels
