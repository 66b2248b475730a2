#include "bench/comparison.hpp"

#include <utility>

#include "bench/statistics.hpp"

namespace orlop::bench {

double cpu_seconds_per_gb(const std::vector<StepSample>& samples) {
  double cpu = 0;
  double gb = 0;
  for (const StepSample& sample : samples) {
    cpu += sample.cpu_seconds;
    gb += static_cast<double>(sample.timed.sum()) * 1e-9;
  }
  return gb > 0 ? cpu / gb : 0;
}

double Comparison::speed_fraction() const {
  std::vector<double> fractions;
  for (std::size_t i = 0; i < whole.size() && i < without.size(); ++i) {
    fractions.push_back(without[i].seconds / whole[i].seconds);
  }
  return median_of(std::move(fractions));
}

double Comparison::cpu_seconds_per_gb() const {
  return bench::cpu_seconds_per_gb(whole) - bench::cpu_seconds_per_gb(without);
}

Result<Comparison> compare(Trainer& whole, const Model& model, GradientSource& gradients, zero3::EngineOptions options,
                           DeviceTime device_time, unsigned pairs, const OnStep& on_step) {
  Comparison comparison;
  comparison.left_out = options.arithmetic == zero3::Arithmetic::left_out ? "arithmetic" : "checksums";
  TRY_ASSIGN(const auto without, Trainer::open(model, gradients, std::move(options), device_time));
  TRY(without->step());  // warms up
  for (unsigned pair = 0; pair < pairs; ++pair) {
    TRY_ASSIGN(comparison.whole.emplace_back(), whole.step());
    on_step(2 * pair + 1, 2 * pairs);
    TRY_ASSIGN(comparison.without.emplace_back(), without->step());
    on_step(2 * pair + 2, 2 * pairs);
  }
  TRY(without->close());
  return comparison;
}

}  // namespace orlop::bench
