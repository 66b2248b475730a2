#include <cuda_runtime_api.h>

#include "kernels/update.hpp"
#include "kernels/update_element.hpp"

namespace orlop::kernels {
namespace {

constexpr unsigned kThreads = 256;

// Neighbouring elements of a plane that one thread reads and writes at once.
template <typename T, int kWidth>
struct alignas(sizeof(T) * kWidth) Pack {
  T values[kWidth];
};

template <int kWidth, typename T>
__device__ Pack<T, kWidth> load(const T* plane, std::size_t pack) {
  return reinterpret_cast<const Pack<T, kWidth>*>(plane)[pack];
}

template <int kWidth, typename T>
__device__ void store(T* plane, std::size_t pack, const Pack<T, kWidth>& values) {
  reinterpret_cast<Pack<T, kWidth>*>(plane)[pack] = values;
}

template <GradType kGrad, int kWidth>
__device__ Pack<float, kWidth> load_grad(const void* grad, std::size_t pack) {
  if constexpr (kGrad == GradType::f32) {
    return load<kWidth>(static_cast<const float*>(grad), pack);
  } else {
    const auto bits = load<kWidth>(static_cast<const std::uint16_t*>(grad), pack);
    Pack<float, kWidth> values;
    for (int k = 0; k != kWidth; ++k) {
      values.values[k] = kGrad == GradType::bf16 ? float_of_bf16(bits.values[k]) : float_of_f16(bits.values[k]);
    }
    return values;
  }
}

template <Master kMaster, int kWidth>
__device__ Pack<float, kWidth> load_master(const PlaneSpan& span, std::size_t pack) {
  if constexpr (kMaster == Master::itself) {
    return load<kWidth>(static_cast<const float*>(span.param), pack);
  } else if constexpr (kMaster == Master::separate) {
    return load<kWidth>(span.master, pack);
  } else {
    const auto param = load<kWidth>(static_cast<const std::uint16_t*>(span.param), pack);
    const auto lo = load<kWidth>(span.lo, pack);
    Pack<float, kWidth> master;
    for (int k = 0; k != kWidth; ++k) master.values[k] = join_master(param.values[k], lo.values[k]);
    return master;
  }
}

template <Master kMaster, int kWidth>
__device__ void store_master(const PlaneSpan& span, std::size_t pack, const Pack<float, kWidth>& master) {
  if constexpr (kMaster == Master::itself) {
    store<kWidth>(static_cast<float*>(span.param), pack, master);
  } else {
    Pack<std::uint16_t, kWidth> param;
    if constexpr (kMaster == Master::separate) {
      for (int k = 0; k != kWidth; ++k) param.values[k] = f16_of_float(master.values[k]);
      store<kWidth>(span.master, pack, master);
    } else {
      Pack<std::int16_t, kWidth> lo;
      for (int k = 0; k != kWidth; ++k) {
        const SplitMaster split = split_master(master.values[k]);
        param.values[k] = split.param;
        lo.values[k] = split.lo;
      }
      store<kWidth>(span.lo, pack, lo);
    }
    store<kWidth>(static_cast<std::uint16_t*>(span.param), pack, param);
  }
}

template <Master kMaster, GradType kGrad, Rule kRule, int kWidth>
__device__ void update(const PlaneSpan& span, const StepConstants& constants, std::size_t pack) {
  const auto grad = load_grad<kGrad, kWidth>(span.grad, pack);
  auto master = load_master<kMaster, kWidth>(span, pack);
  Pack<float, kWidth> exp_avg = {};
  Pack<float, kWidth> exp_avg_sq = {};
  if constexpr (has_exp_avg(kRule)) exp_avg = load<kWidth>(span.exp_avg, pack);
  if constexpr (has_exp_avg_sq(kRule)) exp_avg_sq = load<kWidth>(span.exp_avg_sq, pack);
  for (int k = 0; k != kWidth; ++k) {
    const Element now =
        update_element<kRule>({master.values[k], exp_avg.values[k], exp_avg_sq.values[k]}, grad.values[k], constants);
    master.values[k] = now.param;
    exp_avg.values[k] = now.exp_avg;
    exp_avg_sq.values[k] = now.exp_avg_sq;
  }
  store_master<kMaster, kWidth>(span, pack, master);
  if constexpr (has_exp_avg(kRule)) store<kWidth>(span.exp_avg, pack, exp_avg);
  if constexpr (has_exp_avg_sq(kRule)) store<kWidth>(span.exp_avg_sq, pack, exp_avg_sq);
}

// One thread for each pack; the first threads also take one each of the elements that are left over.
template <Master kMaster, GradType kGrad, Rule kRule, int kWidth>
__global__ void __launch_bounds__(kThreads) update_kernel(PlaneSpan span, StepConstants constants) {
  const std::size_t thread = static_cast<std::size_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::size_t packs = span.count / kWidth;
  if (thread < packs) update<kMaster, kGrad, kRule, kWidth>(span, constants, thread);
  if constexpr (kWidth > 1) {
    const std::size_t left_over = packs * kWidth + thread;
    if (left_over < span.count) update<kMaster, kGrad, kRule, 1>(span, constants, left_over);
  }
}

template <Master kMaster, GradType kGrad, Rule kRule, int kWidth>
void launch(const PlaneSpan& span, const StepConstants& constants, cudaStream_t stream) {
  const std::size_t threads = span.count / kWidth + span.count % kWidth;
  const auto blocks = static_cast<unsigned>((threads + kThreads - 1) / kThreads);
  update_kernel<kMaster, kGrad, kRule, kWidth><<<blocks, kThreads, 0, stream>>>(span, constants);
}

bool is_aligned(const void* plane, std::size_t alignment) {
  return reinterpret_cast<std::uintptr_t>(plane) % alignment == 0;  // null counts as aligned
}

template <Master kMaster, GradType kGrad, Rule kRule>
void launch_widest(const PlaneSpan& span, const StepConstants& constants, cudaStream_t stream) {
  constexpr int kWidth = 4;
  constexpr std::size_t kWide = kWidth * 4;
  constexpr std::size_t kParam = kMaster == Master::itself ? kWide : kWide / 2;
  constexpr std::size_t kGradBytes = kGrad == GradType::f32 ? kWide : kWide / 2;
  if (is_aligned(span.param, kParam) && is_aligned(span.lo, kWide / 2) && is_aligned(span.master, kWide) &&
      is_aligned(span.exp_avg, kWide) && is_aligned(span.exp_avg_sq, kWide) && is_aligned(span.grad, kGradBytes)) {
    launch<kMaster, kGrad, kRule, kWidth>(span, constants, stream);
  } else {
    launch<kMaster, kGrad, kRule, 1>(span, constants, stream);
  }
}

template <Master kMaster, GradType kGrad>
int launch_rule(const PlaneSpan& span, const StepConstants& constants, cudaStream_t stream) {
  switch (constants.rule) {
    case Rule::adamw: launch_widest<kMaster, kGrad, Rule::adamw>(span, constants, stream); break;
    case Rule::adam: launch_widest<kMaster, kGrad, Rule::adam>(span, constants, stream); break;
    case Rule::adagrad: launch_widest<kMaster, kGrad, Rule::adagrad>(span, constants, stream); break;
    case Rule::lion: launch_widest<kMaster, kGrad, Rule::lion>(span, constants, stream); break;
    default: return cudaErrorInvalidValue;
  }
  return cudaGetLastError();
}

template <Master kMaster>
int launch_for(GradType grad, const PlaneSpan& span, const StepConstants& constants, cudaStream_t stream) {
  switch (grad) {
    case GradType::f32: return launch_rule<kMaster, GradType::f32>(span, constants, stream);
    case GradType::bf16: return launch_rule<kMaster, GradType::bf16>(span, constants, stream);
    case GradType::f16: return launch_rule<kMaster, GradType::f16>(span, constants, stream);
  }
  return cudaErrorInvalidValue;
}

// A grid has at most 2^31 - 1 blocks.
constexpr std::size_t kMaxElements = std::size_t{0x7fffffff} * kThreads;

}  // namespace

int launch_update(Master master, GradType grad, const PlaneSpan& span, const StepConstants& constants, void* stream) {
  if (span.count == 0) return cudaSuccess;
  if (span.count > kMaxElements) return cudaErrorInvalidValue;
  const auto cuda_stream = static_cast<cudaStream_t>(stream);
  switch (master) {
    case Master::itself: return launch_for<Master::itself>(grad, span, constants, cuda_stream);
    case Master::split: return launch_for<Master::split>(grad, span, constants, cuda_stream);
    case Master::separate: return launch_for<Master::separate>(grad, span, constants, cuda_stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace orlop::kernels
