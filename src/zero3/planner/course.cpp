#include "zero3/planner/course.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace orlop::zero3 {
namespace {

std::vector<UnitIndex> units_in(const std::vector<bool>& is_resident) {
  std::vector<UnitIndex> units;
  for (UnitIndex unit = 0; unit < is_resident.size(); ++unit) {
    if (is_resident[unit]) units.push_back(unit);
  }
  return units;
}

UseTrace forward_uses(const UseTrace& trace) {
  const auto is_forward = [](const UnitUse& use) { return use.kind == UseKind::forward; };
  std::vector<UnitUse> uses;
  std::ranges::copy_if(trace.uses(), std::back_inserter(uses), is_forward);
  if (uses.empty()) {
    const UseTrace predicted = UseTrace::predicted(trace.unit_count());
    std::ranges::copy_if(predicted.uses(), std::back_inserter(uses), is_forward);
  }
  return {std::move(uses), trace.unit_count()};
}

}  // namespace

Course::Course(std::vector<UnitSize> units, const PlanLimits& limits)
    : Course(units, limits, TraceRecorder(units.size())) {}

Course::Course(std::vector<UnitSize> units, const PlanLimits& limits, TraceRecorder recorder)
    : units_(std::move(units)),
      limits_(limits),
      recorder_(std::move(recorder)),
      plan_({recorder_.expected(), units_, limits_, DriveRates{}}, {}),
      was_resident_(units_.size()) {}

Course Course::of_forward_uses(const Course& other) {
  std::vector<UnitSize> units = other.units_;
  for (UnitSize& unit : units) unit.update_read_bytes = unit.update_write_bytes = 0;
  return {std::move(units), other.limits_, TraceRecorder(forward_uses(other.recorder_.expected()))};
}

std::size_t Course::use(UnitIndex unit, UseKind kind, double compute_seconds) {
  position_ = recorder_.use(unit, kind, compute_seconds);
  return *position_;
}

// A position of a pass that has ended meanwhile stands for the last one.
bool Course::may_stay(UnitIndex unit, std::size_t position, std::uint64_t live_elements) const {
  return live_elements <= limits_.max_live_elements &&
         plan_.should_keep(unit, std::min(position, last_position()), live_elements);
}

std::vector<UnitIndex> Course::upcoming(const std::vector<bool>& is_resident) const {
  return position_ ? plan_.upcoming(*position_, is_resident) : plan_.upcoming_first(is_resident);
}

std::vector<UnitIndex> Course::victims(std::uint64_t elements, std::span<const UnitIndex> idle) const {
  return plan_.victims(position_.value_or(last_position()), elements, idle);
}

bool Course::end_pass(double compute_seconds, const std::vector<bool>& is_resident, const DriveRates& rates) {
  const bool is_new = recorder_.end_step(compute_seconds);
  position_.reset();
  if (is_new || is_resident != was_resident_) {
    plan_ = Plan({recorder_.expected(), units_, limits_, rates}, units_in(is_resident));
    was_resident_ = is_resident;
    ++plans_made_;
  }
  return is_new;
}

}  // namespace orlop::zero3
