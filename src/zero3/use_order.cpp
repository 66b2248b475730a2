#include "zero3/use_order.hpp"

#include <algorithm>
#include <utility>

namespace orlop::zero3 {

void UseOrder::note(std::uint32_t unit) {
  if (expected_ < before_.size() && before_[expected_] == unit) {
    ++expected_;
  } else if (!before_.empty()) {
    ++surprises_;
    find_again(unit);
  }
  current_.push_back(unit);
}

// Uses that were left out are skipped; one that was never there is passed over.
void UseOrder::find_again(std::uint32_t unit) {
  const auto begin = before_.begin() + static_cast<std::ptrdiff_t>(std::min(expected_, before_.size()));
  const auto found = std::find(begin, before_.end(), unit);
  if (found != before_.end()) expected_ = static_cast<std::size_t>(found - before_.begin()) + 1;
}

void UseOrder::end_step() {
  if (!current_.empty()) before_ = std::exchange(current_, {});
  expected_ = 0;
}

std::vector<std::uint32_t> UseOrder::upcoming(std::size_t most) const {
  if (before_.empty()) return upcoming_by_number(most);
  const auto begin = before_.begin() + static_cast<std::ptrdiff_t>(expected_);
  const auto count = std::min(most, before_.size() - expected_);
  return {begin, begin + static_cast<std::ptrdiff_t>(count)};
}

std::vector<std::uint32_t> UseOrder::upcoming_by_number(std::size_t most) const {
  std::vector<std::uint32_t> units;
  const bool is_backwards = current_.size() > 1 && current_.back() < current_[current_.size() - 2];
  std::int64_t next = current_.empty() ? 0 : std::int64_t{current_.back()} + (is_backwards ? -1 : 1);
  for (; next >= 0 && next < std::int64_t{unit_count_} && units.size() < most; next += is_backwards ? -1 : 1) {
    units.push_back(static_cast<std::uint32_t>(next));
  }
  return units;
}

}  // namespace orlop::zero3
