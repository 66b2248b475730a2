// Groups: the optimizer's values per parameter group.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.hpp"
#include "kernels/adam_element.hpp"

namespace orlop::zero3 {

class Groups {
 public:
  static constexpr int kMaximum = 1024;

  explicit Groups(const kernels::AdamHyper& initial) : initial_(initial) {}

  // Errors: ORLOP_INVALID_ARGUMENT with the value that is out of range.
  Result<kernels::AdamHyper> get(int group) const;
  Result<> set(int group, const kernels::AdamHyper& hyper);

  // Groups 0 .. count - 1.
  [[nodiscard]] std::vector<kernels::AdamHyper> values(int count) const;

  // What update t (from 1) needs, by group number, for groups 0 .. count - 1.
  [[nodiscard]] std::vector<kernels::AdamConstants> constants(int count, std::uint64_t t, double grad_scale) const;

 private:
  kernels::AdamHyper initial_;
  std::vector<kernels::AdamHyper> groups_;  // those that were set, and all before them
};

}  // namespace orlop::zero3
