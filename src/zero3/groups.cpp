#include "zero3/groups.hpp"

#include <algorithm>
#include <cmath>

#include "zero3/param.hpp"

namespace orlop::zero3 {
namespace {

Result<> check_number(int group) {
  if (group >= 0 && group < Groups::kMaximum) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "optimizer group: {}: must be from 0 to {}", group, Groups::kMaximum - 1);
}

Result<> check_value(const std::string& what, const char* name, double value, double below) {
  if (value >= 0 && value < below) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "optimizer group: on {} ({} = {}): must be at least 0 and {}", what, name, value,
              below == 1 ? "below 1" : "finite");
}

}  // namespace

Result<> check_hyper_params(const std::string& what, const kernels::HyperParams& hyper) {
  TRY(check_value(what, "lr", hyper.lr, INFINITY));
  TRY(check_value(what, "beta1", hyper.beta1, 1));
  TRY(check_value(what, "beta2", hyper.beta2, 1));
  TRY(check_value(what, "eps", hyper.eps, INFINITY));
  TRY(check_value(what, "weight_decay", hyper.weight_decay, INFINITY));
  TRY(check_value(what, "lr_decay", hyper.lr_decay, INFINITY));
  const bool is_lion = hyper.optimizer == kernels::Optimizer::lion;
  if (hyper.optimizer == kernels::Optimizer::adam || hyper.decoupled == is_lion) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "optimizer group: on {} (decoupled_weight_decay = {}): {} knows only {}", what,
              hyper.decoupled ? 1 : 0, name_of(hyper.optimizer), is_lion ? 1 : 0);
}

Result<> Groups::check_optimizer(int group, const kernels::HyperParams& hyper) const {
  if (hyper.optimizer == optimizer()) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "optimizer group: on group {}: its optimizer is {}, the engine's {}; start from "
              "orlop_group_get", group, name_of(hyper.optimizer), name_of(optimizer()));
}

Result<kernels::HyperParams> Groups::get(int group) const {
  TRY(check_number(group));
  const auto index = static_cast<std::size_t>(group);
  return index < groups_.size() ? groups_[index] : initial_;
}

Result<> Groups::set(int group, const kernels::HyperParams& hyper) {
  TRY(check_number(group));
  TRY(check_optimizer(group, hyper));
  TRY(check_hyper_params(fmt::format("group {}", group), hyper));
  const auto index = static_cast<std::size_t>(group);
  if (index >= groups_.size()) groups_.resize(index + 1, initial_);
  groups_[index] = hyper;
  return {};
}

std::vector<kernels::HyperParams> Groups::values(int count) const {
  std::vector<kernels::HyperParams> values(static_cast<std::size_t>(count), initial_);
  std::copy_n(groups_.begin(), std::min(groups_.size(), values.size()), values.begin());
  return values;
}

std::vector<kernels::StepConstants> Groups::constants(int count, std::uint64_t t, double grad_scale) const {
  std::vector<kernels::StepConstants> constants;
  for (const auto& hyper : values(count)) constants.push_back(kernels::make_constants(hyper, t, grad_scale));
  return constants;
}

}  // namespace orlop::zero3
