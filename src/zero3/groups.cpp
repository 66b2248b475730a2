#include "zero3/groups.hpp"

#include <algorithm>
#include <cmath>

namespace orlop::zero3 {
namespace {

Result<> check_number(int group) {
  if (group >= 0 && group < Groups::kMaximum) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "optimizer group: {}: must be from 0 to {}", group, Groups::kMaximum - 1);
}

Result<> check_value(int group, const char* name, double value, double below) {
  if (value >= 0 && value < below) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "optimizer group: on group {} ({} = {}): must be at least 0 and {}", group, name,
              value, below == 1 ? "below 1" : "finite");
}

}  // namespace

Result<kernels::AdamHyper> Groups::get(int group) const {
  TRY(check_number(group));
  const auto index = static_cast<std::size_t>(group);
  return index < groups_.size() ? groups_[index] : initial_;
}

Result<> Groups::set(int group, const kernels::AdamHyper& hyper) {
  TRY(check_number(group));
  TRY(check_value(group, "lr", hyper.lr, INFINITY));
  TRY(check_value(group, "beta1", hyper.beta1, 1));
  TRY(check_value(group, "beta2", hyper.beta2, 1));
  TRY(check_value(group, "eps", hyper.eps, INFINITY));
  TRY(check_value(group, "weight_decay", hyper.weight_decay, INFINITY));
  const auto index = static_cast<std::size_t>(group);
  if (index >= groups_.size()) groups_.resize(index + 1, initial_);
  groups_[index] = hyper;
  return {};
}

std::vector<kernels::AdamHyper> Groups::values(int count) const {
  std::vector<kernels::AdamHyper> values(static_cast<std::size_t>(count), initial_);
  std::copy_n(groups_.begin(), std::min(groups_.size(), values.size()), values.begin());
  return values;
}

std::vector<kernels::AdamConstants> Groups::constants(int count, std::uint64_t t, double grad_scale) const {
  std::vector<kernels::AdamConstants> constants;
  for (const auto& hyper : values(count)) constants.push_back(kernels::make_constants(hyper, t, grad_scale));
  return constants;
}

}  // namespace orlop::zero3
