#include "zero3/planner/use_trace.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace orlop::zero3 {

UseTrace::UseTrace(std::vector<UnitUse> uses, std::size_t unit_count)
    : uses_(std::move(uses)), begin_(unit_count + 1), positions_(uses_.size()) {
  for (const UnitUse& use : uses_) ++begin_[use.unit + 1];
  for (std::size_t unit = 0; unit < unit_count; ++unit) begin_[unit + 1] += begin_[unit];
  std::vector<std::size_t> end(begin_.begin(), begin_.end() - 1);
  for (std::size_t position = 0; position < uses_.size(); ++position) {
    positions_[end[uses_[position].unit]++] = position;
  }
}

UseTrace UseTrace::predicted(std::size_t unit_count) {
  std::vector<UnitUse> uses;
  uses.reserve(2 * unit_count);
  for (std::size_t i = 0; i < unit_count; ++i) uses.push_back({static_cast<UnitIndex>(i), UseKind::forward});
  for (std::size_t i = unit_count; i-- > 0;) uses.push_back({static_cast<UnitIndex>(i), UseKind::backward});
  return {std::move(uses), unit_count};
}

std::span<const std::size_t> UseTrace::positions_of(UnitIndex unit) const {
  return std::span(positions_).subspan(begin_[unit], begin_[unit + 1] - begin_[unit]);
}

std::size_t UseTrace::next_use(UnitIndex unit, std::size_t position) const {
  const auto positions = positions_of(unit);
  if (positions.empty()) return kNever;
  const auto later = std::ranges::upper_bound(positions, position);
  return later == positions.end() ? positions.front() + size() - position : *later - position;
}

std::size_t UseTrace::last_use(UnitIndex unit, std::size_t position) const {
  const auto positions = positions_of(unit);
  if (positions.empty()) return kNever;
  const auto later = std::ranges::lower_bound(positions, position);
  return later == positions.begin() ? position + size() - positions.back() : position - *std::prev(later);
}

}  // namespace orlop::zero3
