// ElementType: what an array on the device holds: whatever a gradient can be.
#pragma once

#include "kernels/plane_span.hpp"

namespace orlop::kernels {

using ElementType = GradType;

}  // namespace orlop::kernels
