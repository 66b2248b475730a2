// Adam run: offload_bench adam, from its options to its report.
#pragma once

#include "bench/options.hpp"

namespace orlop::bench {

Result<> run_adam(const AdamArguments& options);

}  // namespace orlop::bench
