// Comparison: the same pipeline with something left out, step by step in turn with the whole one.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bench/trainer.hpp"

namespace orlop::bench {

struct Comparison {
  std::string left_out;  // "arithmetic", "checksums"
  std::vector<StepSample> whole;
  std::vector<StepSample> without;
  // Speed of the whole one as a fraction of the other's; median of the pairs.
  [[nodiscard]] double speed_fraction() const;
  // What the part costs.
  [[nodiscard]] double cpu_seconds_per_gb() const;
};

using OnStep = std::function<void(unsigned done, unsigned all)>;

// Opens a second engine beside the first with options that leave something out, and runs `pairs` steps of each in turn;
// whichever is not running is idle.
Result<Comparison> compare(Trainer& whole, const Model& model, GradientSource& gradients, zero3::EngineOptions options,
                           DeviceTime device_time, unsigned pairs, const OnStep& on_step);

double cpu_seconds_per_gb(const std::vector<StepSample>& samples);

}  // namespace orlop::bench
