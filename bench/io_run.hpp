// I/O run: offload_bench io, from its options to its report.
#pragma once

#include "bench/options.hpp"

namespace orlop::bench {

Result<> run_io(const IoArguments& options);

}  // namespace orlop::bench
