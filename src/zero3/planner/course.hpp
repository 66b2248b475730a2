// Course: passes over units that repeat, the one before remembered and the plan for the one under way.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "zero3/planner/plan.hpp"
#include "zero3/planner/trace_recorder.hpp"

namespace orlop::zero3 {

class Course {
 public:
  // Follows the order of registration at first, forward and then backward.
  Course(std::vector<UnitSize> units, const PlanLimits& limits);
  // The forward uses of another course, over and over: nothing is updated in between.
  static Course of_forward_uses(const Course& other);

  // As TraceRecorder::use. The answer is for may_stay().
  std::size_t use(UnitIndex unit, UseKind kind, double compute_seconds);
  // Whether a unit stays whose use is over.
  [[nodiscard]] bool may_stay(UnitIndex unit, std::size_t position, std::uint64_t live_elements) const;
  // What to read ahead now, in order, without what is in memory (by unit).
  [[nodiscard]] std::vector<UnitIndex> upcoming(const std::vector<bool>& is_resident) const;
  // Whom to evict for so many elements that are needed now.
  [[nodiscard]] std::vector<UnitIndex> victims(std::uint64_t elements, std::span<const UnitIndex> idle) const;
  // Whether the rest of the pass is expected to read anything.
  [[nodiscard]] bool reads_more() const {
    return position_ ? plan_.reads_after(*position_) : plan_.reads_at_all();
  }

  // The pass has ended, `compute_seconds` after its last use. A plan for the next is made where that is
  // another than the one there is: when uses come in a new order, or other units are in memory. Whether the
  // order is new.
  bool end_pass(double compute_seconds, const std::vector<bool>& is_resident, const DriveRates& rates);

  // By unit: uses that were not expected, once there was something to expect.
  [[nodiscard]] const std::vector<std::uint64_t>& differing() const { return recorder_.differing(); }
  [[nodiscard]] std::uint64_t plans_made() const { return plans_made_; }

 private:
  Course(std::vector<UnitSize> units, const PlanLimits& limits, TraceRecorder recorder);
  [[nodiscard]] std::size_t last_position() const { return recorder_.expected().size() - 1; }

  std::vector<UnitSize> units_;
  PlanLimits limits_;
  TraceRecorder recorder_;
  Plan plan_;
  std::vector<bool> was_resident_;       // as the plan begins
  std::optional<std::size_t> position_;  // none: before the first use
  std::uint64_t plans_made_ = 1;
};

}  // namespace orlop::zero3
