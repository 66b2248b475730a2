// Statistics of repeated measurements.
#pragma once

#include <vector>

#include "bench/adam_case.hpp"

namespace orlop::bench {

// Interpolated between neighbours; all zero for no samples.
Quantiles quantiles_of(std::vector<double> samples);
double median_of(std::vector<double> samples);

}  // namespace orlop::bench
