// ElementType: what an array on the device holds.
#pragma once

#include <cstdint>

namespace orlop::kernels {

enum class ElementType : std::uint8_t { f32, bf16, f16 };

}  // namespace orlop::kernels
