#include "zero3/planner/pinning.hpp"

#include <algorithm>
#include <functional>
#include <iterator>
#include <numeric>

namespace orlop::zero3 {
namespace {

double density(const PinCandidate& c) {
  return static_cast<double>(c.saved_bytes) / static_cast<double>(c.bytes);
}

std::uint64_t sum(std::span<const PinCandidate> candidates, std::uint64_t PinCandidate::*member) {
  return std::accumulate(candidates.begin(), candidates.end(), std::uint64_t{0},
                         [member](std::uint64_t total, const PinCandidate& c) { return total + c.*member; });
}

// Pins of one density: as far as the part of the group that was passed allows, then whatever still fits.
std::vector<PinCandidate> spread(std::span<const PinCandidate> group, std::uint64_t budget_bytes) {
  const double share =
      static_cast<double>(budget_bytes) / static_cast<double>(sum(group, &PinCandidate::bytes));
  std::vector<PinCandidate> pinned;
  std::vector<PinCandidate> others;
  std::uint64_t passed = 0;
  std::uint64_t used = 0;
  const auto take = [&](const PinCandidate& c) {
    pinned.push_back(c);
    used += c.bytes;
  };
  for (const PinCandidate& c : group) {
    passed += c.bytes;
    const bool is_due = static_cast<double>(used + c.bytes) <= share * static_cast<double>(passed);
    if (is_due && used + c.bytes <= budget_bytes) {
      take(c);
    } else {
      others.push_back(c);
    }
  }
  for (const PinCandidate& c : others) {
    if (used + c.bytes <= budget_bytes) take(c);
  }
  return pinned;
}

std::vector<PinCandidate> pin_by_density(std::vector<PinCandidate> candidates, std::uint64_t budget_bytes) {
  std::ranges::stable_sort(candidates, std::greater{}, density);
  std::vector<PinCandidate> pinned;
  for (auto begin = candidates.begin(); begin != candidates.end();) {
    const auto end =
        std::find_if(begin, candidates.end(), [&](const auto& c) { return density(c) != density(*begin); });
    for (const PinCandidate& c : spread({begin, end}, budget_bytes)) {
      pinned.push_back(c);
      budget_bytes -= c.bytes;
    }
    begin = end;
  }
  return pinned;
}

}  // namespace

std::vector<UnitIndex> pin(std::span<const PinCandidate> candidates, std::uint64_t budget_bytes) {
  std::vector<PinCandidate> possible;
  std::ranges::copy_if(candidates, std::back_inserter(possible), [&](const PinCandidate& c) {
    return c.saved_bytes > 0 && c.bytes > 0 && c.bytes <= budget_bytes;
  });
  if (possible.empty()) return {};
  auto pinned = pin_by_density(possible, budget_bytes);
  const auto best = std::ranges::max_element(possible, {}, &PinCandidate::saved_bytes);
  if (best->saved_bytes > sum(pinned, &PinCandidate::saved_bytes)) pinned = {*best};
  std::vector<UnitIndex> units;
  std::ranges::transform(pinned, std::back_inserter(units), &PinCandidate::unit);
  std::ranges::sort(units);
  return units;
}

std::vector<UnitIndex> persistent_units(const PlanInput& input) {
  const auto elements_of = [&](UnitIndex unit) { return input.units[unit].elements; };
  std::vector<UnitIndex> units(input.units.size());
  std::iota(units.begin(), units.end(), 0);
  std::ranges::stable_sort(units, {}, elements_of);
  std::uint64_t live = 0;
  const auto first_other = std::ranges::find_if(units, [&](UnitIndex unit) {
    live += elements_of(unit);
    const bool is_last = unit == units.back();
    const std::uint64_t beside = is_last ? 0 : elements_of(units.back());
    return elements_of(unit) > input.limits.persistence_elements ||
           live + beside > input.limits.max_live_elements;
  });
  units.erase(first_other, units.end());
  return units;
}

}  // namespace orlop::zero3
