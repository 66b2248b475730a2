#include "zero3/loss_scaler.hpp"

#include <algorithm>
#include <cmath>

namespace orlop::zero3 {

LossScaler::LossScaler(const std::optional<Fp16Settings>& settings) {
  if (!settings) return;
  settings_ = *settings;
  is_dynamic_ = settings->loss_scale == 0;
  state_.scale = is_dynamic_ ? std::ldexp(1.0, static_cast<int>(settings->initial_scale_power)) : settings->loss_scale;
  state_.overflows_left = settings->hysteresis;
}

void LossScaler::restore(const LossScalerState& state) {
  if (is_dynamic_) state_ = state;
}

bool LossScaler::is_exhausted() const {
  return is_dynamic_ && state_.scale <= settings_.min_loss_scale && state_.overflows_left <= 1;
}

void LossScaler::note_good_step() {
  if (!is_dynamic_) return;
  if (settings_.consecutive_hysteresis) state_.overflows_left = settings_.hysteresis;
  ++state_.good_steps;
  if (state_.good_steps == 1 || (state_.good_steps - 1) % settings_.loss_scale_window != 0) return;
  state_.overflows_left = settings_.hysteresis;
  state_.scale *= 2;
}

void LossScaler::note_overflow() {
  if (!is_dynamic_) return;
  state_.good_steps = 0;
  if (state_.overflows_left > 1) {
    --state_.overflows_left;
  } else {
    state_.scale = std::max(state_.scale / 2, settings_.min_loss_scale);
  }
}

}  // namespace orlop::zero3
