// Groups: the optimizer's values per parameter group.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "kernels/optimizer.hpp"

namespace orlop::zero3 {

// Whether values are those of an optimizer. Error: ORLOP_INVALID_ARGUMENT with the value that is out of range, or that this
// optimizer cannot have; `what` says whose they are.
Result<> check_hyper_params(const std::string& what, const kernels::HyperParams& hyper);

class Groups {
 public:
  static constexpr int kMaximum = 1024;

  explicit Groups(const kernels::HyperParams& initial) : initial_(initial) {}

  [[nodiscard]] kernels::Optimizer optimizer() const { return initial_.optimizer; }

  // Errors: ORLOP_INVALID_ARGUMENT with the value that is out of range, or that this optimizer cannot have.
  Result<kernels::HyperParams> get(int group) const;
  Result<> set(int group, const kernels::HyperParams& hyper);

  // Groups 0 .. count - 1.
  [[nodiscard]] std::vector<kernels::HyperParams> values(int count) const;

  // What update t (from 1) needs, by group number, for groups 0 .. count - 1.
  [[nodiscard]] std::vector<kernels::StepConstants> constants(int count, std::uint64_t t, double grad_scale) const;

 private:
  Result<> check_optimizer(int group, const kernels::HyperParams& hyper) const;

  kernels::HyperParams initial_;
  std::vector<kernels::HyperParams> groups_;  // those that were set, and all before them
};

}  // namespace orlop::zero3
