#include "bench/random_values.hpp"

#include <bit>
#include <cmath>

namespace orlop::bench {
namespace {

// A bijection of 32-bit numbers in which every input bit changes every output bit about half of the time. Multiply and
// xor-shift, so that a compiler vectorises the loop around it. (The constants are those of MurmurHash3's finaliser.)
constexpr std::uint32_t mixed(std::uint32_t x) {
  x ^= x >> 16;
  x *= 0x85ebca6bu;
  x ^= x >> 13;
  x *= 0xc2b2ae35u;
  x ^= x >> 16;
  return x;
}

constexpr std::uint32_t mixed64(std::uint64_t x) {
  return mixed(static_cast<std::uint32_t>(x) ^ mixed(static_cast<std::uint32_t>(x >> 32) + 0x9e3779b9u));
}

constexpr std::uint32_t key_of(Sequence sequence, std::uint64_t high_index) {
  return mixed(mixed64(sequence.seed) + mixed64(sequence.stream * 2 + 1) * 0x9e3779b9u +
               static_cast<std::uint32_t>(high_index));
}

// 24 of the bits as a signed fraction: exact in fp32, so that no rounding mode or instruction set can matter.
inline float value(std::uint32_t index, std::uint32_t key, float scale) {
  const auto bits = static_cast<std::int32_t>(mixed(index ^ key));
  return static_cast<float>(bits >> 8) * scale;
}

constexpr std::size_t kGrain = 64 * 1024;  // divides 2^32: a piece has one high half of the index

template <typename T>
void fill_piece(T* out, std::uint32_t first, std::size_t count, std::uint32_t key, float scale) {
  for (std::size_t i = 0; i < count; ++i) {
    const float x = value(first + static_cast<std::uint32_t>(i), key, scale);
    if constexpr (sizeof(T) == 4) {
      out[i] = x;
    } else {
      out[i] = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x) >> 16);
    }
  }
}

}  // namespace

void fill_random(const cpu_adam::Workers& workers, Sequence sequence, int exponent, zero3::Dtype dtype,
                 void* destination, std::uint64_t count) {
  const auto scale = static_cast<float>(std::ldexp(1.0, exponent - 23));
  workers.parallel_for(static_cast<std::size_t>(count), kGrain, [&](std::size_t begin, std::size_t end) {
    for (std::size_t at = begin; at < end; at += kGrain) {
      const std::size_t piece = std::min(kGrain, end - at);
      const std::uint32_t key = key_of(sequence, static_cast<std::uint64_t>(at) >> 32);
      const auto first = static_cast<std::uint32_t>(at);
      if (dtype == zero3::Dtype::f32) {
        fill_piece(static_cast<float*>(destination) + at, first, piece, key, scale);
      } else {
        fill_piece(static_cast<std::uint16_t*>(destination) + at, first, piece, key, scale);
      }
    }
  });
}

}  // namespace orlop::bench
