#include "zero3/loss_scaler.hpp"

#include <algorithm>
#include <cmath>

namespace orlop::zero3 {

LossScaler::LossScaler(const std::optional<Fp16Settings>& settings) {
  if (!settings) return;
  settings_ = *settings;
  is_dynamic_ = settings->loss_scale == 0;
  scale_ = is_dynamic_ ? std::ldexp(1.0, static_cast<int>(settings->initial_scale_power)) : settings->loss_scale;
  overflows_left_ = settings->hysteresis;
}

bool LossScaler::is_exhausted() const {
  return is_dynamic_ && scale_ <= settings_.min_loss_scale && overflows_left_ <= 1;
}

void LossScaler::note_good_step() {
  if (!is_dynamic_) return;
  if (settings_.consecutive_hysteresis) overflows_left_ = settings_.hysteresis;
  if (++good_steps_ < settings_.loss_scale_window) return;
  good_steps_ = 0;
  overflows_left_ = settings_.hysteresis;
  scale_ *= 2;
}

void LossScaler::note_overflow() {
  if (!is_dynamic_) return;
  good_steps_ = 0;
  if (overflows_left_ > 1) {
    --overflows_left_;
  } else {
    scale_ = std::max(scale_ / 2, settings_.min_loss_scale);
  }
}

}  // namespace orlop::zero3
