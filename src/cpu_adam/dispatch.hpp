// From an instruction set to its kernels. The caller has checked that it is usable (select_isa, usable_isas).
#pragma once

#include "cpu_adam/kernel_table.hpp"

namespace orlop::cpu_adam {

const KernelTable& kernels_of(Isa isa);

}  // namespace orlop::cpu_adam
