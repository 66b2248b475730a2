#include "bench/statistics.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace orlop::bench {
namespace {

double quantile(const std::vector<double>& sorted, double q) {
  const double at = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

}  // namespace

Quantiles quantiles_of(std::vector<double> samples) {
  if (samples.empty()) return {};
  std::ranges::sort(samples);
  return {quantile(samples, 0.5), quantile(samples, 0.1), quantile(samples, 0.9)};
}

double median_of(std::vector<double> samples) { return quantiles_of(std::move(samples)).median; }

}  // namespace orlop::bench
