// Step run: offload_bench step, from its options to its report.
#pragma once

#include "bench/options.hpp"
#include "bench/progress.hpp"

namespace orlop::bench {

Result<> run_step(const StepArguments& options);

}  // namespace orlop::bench
