// Reading and writing one element of an array, by its type. For the kernels only.
#pragma once

#include <cstdint>

#include "kernels/element.hpp"
#include "kernels/element_type.hpp"

namespace orlop::kernels {

template <ElementType kType>
struct ElementOf {
  using Stored = std::uint16_t;
};
template <>
struct ElementOf<ElementType::f32> {
  using Stored = float;
};
template <ElementType kType>
using Stored = typename ElementOf<kType>::Stored;

template <ElementType kType>
__device__ float to_float(Stored<kType> value) {
  if constexpr (kType == ElementType::f32) return value;
  if constexpr (kType == ElementType::bf16) return float_of_bf16(value);
  if constexpr (kType == ElementType::f16) return float_of_f16(value);
}

template <ElementType kType>
__device__ Stored<kType> from_float(float value) {
  if constexpr (kType == ElementType::f32) return canonical(value);
  if constexpr (kType == ElementType::bf16) return bf16_of_float(value);
  if constexpr (kType == ElementType::f16) return f16_of_float(value);
}

}  // namespace orlop::kernels
