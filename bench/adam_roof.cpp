// Compiled once per vector size: ORLOP_ROOF_BYTES is 16, 32 or 64, ORLOP_ROOF_NAME the table to define.
#include "bench/adam_roof.hpp"

namespace orlop::bench {
namespace {

using Vector = std::uint32_t __attribute__((vector_size(ORLOP_ROOF_BYTES), aligned(1), may_alias));

constexpr std::size_t kWords = ORLOP_ROOF_BYTES / 4;
constexpr std::size_t kGroup = 4 * kWords;  // elements: four vectors of a 4-byte plane, two of a 2-byte plane

const Vector& in(const void* plane, std::size_t byte) {
  return *reinterpret_cast<const Vector*>(static_cast<const char*>(plane) + byte);
}
Vector& out(void* plane, std::size_t byte) {
  return *reinterpret_cast<Vector*>(static_cast<char*>(plane) + byte);
}

template <std::size_t kVectors>
struct Loaded {
  Vector vectors[kVectors];

  Loaded(const void* plane, std::size_t byte) {
#pragma GCC unroll 4
    for (std::size_t k = 0; k != kVectors; ++k) vectors[k] = in(plane, byte + k * ORLOP_ROOF_BYTES);
  }
  template <std::size_t kOthers>
  void store(void* plane, std::size_t byte, const Loaded<kOthers>& grad, Vector mask) const {
#pragma GCC unroll 4
    for (std::size_t k = 0; k != kVectors; ++k) {
      out(plane, byte + k * ORLOP_ROOF_BYTES) = vectors[k] ^ (grad.vectors[k % kOthers] & mask);
    }
  }
};

enum class Prefetching { hardware, software };

constexpr std::size_t kBytesAhead = 2048;

template <Prefetching kPrefetching, std::size_t kBytes>
void prefetch(const void* plane, std::size_t byte) {
  if constexpr (kPrefetching == Prefetching::hardware) return;
#pragma GCC unroll 4
  for (std::size_t line = 0; line < kBytes; line += 64) {
    __builtin_prefetch(static_cast<const char*>(plane) + byte + kBytesAhead + line);
  }
}

template <Prefetching kPrefetching>
void run_fp32(const RoofSpan& span, std::uint32_t mask_word) {
  const Vector mask = Vector{} + mask_word;
  for (std::size_t byte = 0; byte != span.count * 4; byte += kGroup * 4) {
    prefetch<kPrefetching, kGroup * 4>(span.param, byte);
    prefetch<kPrefetching, kGroup * 4>(span.exp_avg, byte);
    prefetch<kPrefetching, kGroup * 4>(span.exp_avg_sq, byte);
    prefetch<kPrefetching, kGroup * 4>(span.grad, byte);
    const Loaded<4> grad(span.grad, byte), param(span.param, byte), m(span.exp_avg, byte), v(span.exp_avg_sq, byte);
    param.store(span.param, byte, grad, mask);
    m.store(span.exp_avg, byte, grad, mask);
    v.store(span.exp_avg_sq, byte, grad, mask);
  }
}

template <Prefetching kPrefetching>
void run_split(const RoofSpan& span, std::uint32_t mask_word) {
  const Vector mask = Vector{} + mask_word;
  for (std::size_t byte = 0; byte != span.count * 2; byte += kGroup * 2) {
    prefetch<kPrefetching, kGroup * 2>(span.param, byte);
    prefetch<kPrefetching, kGroup * 2>(span.lo, byte);
    prefetch<kPrefetching, kGroup * 2>(span.grad, byte);
    prefetch<kPrefetching, kGroup * 4>(span.exp_avg, 2 * byte);
    prefetch<kPrefetching, kGroup * 4>(span.exp_avg_sq, 2 * byte);
    const Loaded<2> grad(span.grad, byte), param(span.param, byte), lo(span.lo, byte);
    const Loaded<4> m(span.exp_avg, 2 * byte), v(span.exp_avg_sq, 2 * byte);
    param.store(span.param, byte, grad, mask);
    lo.store(span.lo, byte, grad, mask);
    m.store(span.exp_avg, 2 * byte, grad, mask);
    v.store(span.exp_avg_sq, 2 * byte, grad, mask);
  }
}

}  // namespace

constinit const Roofs ORLOP_ROOF_NAME = {
    {run_fp32<Prefetching::hardware>, run_fp32<Prefetching::software>},
    {run_split<Prefetching::hardware>, run_split<Prefetching::software>},
};

}  // namespace orlop::bench
