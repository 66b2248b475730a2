// LossScaler: what losses are multiplied with, so that small fp16 gradients are not rounded to zero (Micikevicius et al.
// 2018, "Mixed Precision Training", section 3.2), under DeepSpeed's rule:
//   of the good steps in a row since the start or the last overflow every `window`-th after the first doubles the scale;
//   an overflow (a gradient that is not finite) first uses up `hysteresis`, then each halves the scale, down to `minimum`;
//   hysteresis is restored by a doubling, with consecutive_hysteresis by every good step.
#pragma once

#include <cstdint>
#include <optional>

#include "base/config.hpp"

namespace orlop::zero3 {

// What changes as a scale is used.
struct LossScalerState {
  double scale = 1;
  std::uint64_t good_steps = 0;      // since the last overflow
  std::uint64_t overflows_left = 0;  // until one halves the scale, that one included
};

class LossScaler {
 public:
  // None: losses are not scaled. A fixed scale never changes.
  explicit LossScaler(const std::optional<Fp16Settings>& settings);

  [[nodiscard]] double scale() const { return state_.scale; }
  [[nodiscard]] const LossScalerState& state() const { return state_; }
  // Goes on from there, unless the scale is fixed.
  void restore(const LossScalerState& state);
  [[nodiscard]] bool is_dynamic() const { return is_dynamic_; }
  // Whether an overflow now could not be answered by a smaller scale.
  [[nodiscard]] bool is_exhausted() const;

  void note_good_step();
  void note_overflow();

 private:
  Fp16Settings settings_;
  bool is_dynamic_ = false;
  LossScalerState state_;
};

}  // namespace orlop::zero3
