#include "zero3/planner/planned_policy.hpp"

#include <algorithm>

namespace orlop::zero3 {

PlannedPolicy::PlannedPolicy(std::span<const UnitSize> units, const PlanLimits& limits,
                             const DriveRates& rates)
    : units_(units),
      limits_(limits),
      rates_(rates),
      recorder_(units.size()),
      plan_({recorder_.expected(), units, limits, rates}, {}) {}

void PlannedPolicy::begin_use(const UnitUse& use, double compute_seconds, VirtualMemory& memory) {
  position_ = recorder_.use(use.unit, use.kind, compute_seconds);
  if (!memory.is_resident(use.unit)) {
    evict(plan_.victims(position_, excess(use.unit, memory), idle(memory)), memory);
    fetch(use.unit, memory);
  }
  in_use_ = use.unit;
}

void PlannedPolicy::read_ahead(VirtualMemory& memory) {
  for (const UnitIndex unit : plan_.upcoming(position_, memory.resident())) {
    if (const std::uint64_t elements = excess(unit, memory); elements > 0) {
      const auto victims = plan_.victims(position_, elements, idle(memory), plan_.next_use(unit, position_));
      if (victims.empty()) return;
      evict(victims, memory);
    }
    fetch(unit, memory);
  }
}

void PlannedPolicy::end_use(UnitIndex unit, VirtualMemory& memory) {
  in_use_.reset();
  const std::uint64_t live_elements = memory.live_elements() - pinned_elements_;
  if (!plan_.should_keep(unit, position_, live_elements)) memory.evict(unit);
}

void PlannedPolicy::end_step(double compute_seconds, VirtualMemory& memory) {
  recorder_.end_step(compute_seconds);
  std::vector<UnitIndex> resident;
  for (UnitIndex unit = 0; unit < units_.size(); ++unit) {
    if (memory.is_resident(unit)) resident.push_back(unit);
  }
  plan_ = Plan({recorder_.expected(), units_, limits_, rates_}, resident);
  for (const Action& action : plan_.actions()) {
    if (action.deadline == 0 && action.kind == ActionKind::evict) memory.evict(action.unit);
  }
  pinned_elements_ = 0;
  for (const UnitIndex unit : plan_.pinned()) {
    if (memory.is_resident(unit)) pinned_elements_ += memory.elements_of(unit);
  }
}

void PlannedPolicy::evict(std::span<const UnitIndex> units, VirtualMemory& memory) {
  for (const UnitIndex unit : units) memory.evict(unit);
}

void PlannedPolicy::fetch(UnitIndex unit, VirtualMemory& memory) {
  memory.fetch(unit);
  if (is_pinned(unit)) pinned_elements_ += memory.elements_of(unit);
}

bool PlannedPolicy::is_pinned(UnitIndex unit) const {
  return std::ranges::binary_search(plan_.pinned(), unit);
}

std::uint64_t PlannedPolicy::excess(UnitIndex unit, const VirtualMemory& memory) const {
  if (is_pinned(unit)) return 0;
  const std::uint64_t live = memory.live_elements() - pinned_elements_ + memory.elements_of(unit);
  return live - std::min(live, limits_.max_live_elements);
}

std::vector<UnitIndex> PlannedPolicy::idle(const VirtualMemory& memory) const {
  std::vector<UnitIndex> units;
  for (UnitIndex unit = 0; unit < units_.size(); ++unit) {
    if (memory.is_resident(unit) && unit != in_use_) units.push_back(unit);
  }
  return units;
}

}  // namespace orlop::zero3
