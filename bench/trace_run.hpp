// Trace run: offload_bench trace, from its options to its report.
#pragma once

#include "bench/options.hpp"

namespace orlop::bench {

Result<> run_trace(const TraceArguments& arguments);

}  // namespace orlop::bench
