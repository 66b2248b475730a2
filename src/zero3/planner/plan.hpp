// Plan: what to fetch, evict and update in one step, and the questions that come up while the step runs.
//
// A pure function of the trace, what is in memory, sizes, limits and rates: no clock, no I/O, the same plan
// for the same input. An executor makes one at the end of each step, from the trace that the step left
// behind, and asks
//   at each use        upcoming() what to read ahead, as long as there is room,
//   after each use     should_keep() whether the unit stays,
//   when room is short victims() whom to evict; as long as uses come as expected, it never is.
// Where the step differs from the trace, the answers are those for the position it has come to
// (TraceRecorder).
//
// Thread-safety: constant once made.
#pragma once

#include "zero3/planner/schedule.hpp"

namespace orlop::zero3 {

class Plan {
 public:
  // How many uses ahead upcoming() looks for units that are not where the plan has them.
  static constexpr std::size_t kNearUses = 64;

  // `resident`: units in memory as the step begins, all of them, also those pinned before.
  Plan(const PlanInput& input, std::span<const UnitIndex> resident);

  // By issue; at one position first what is due before its use begins, then what goes on during it, then its
  // eviction.
  [[nodiscard]] std::span<const Action> actions() const { return actions_; }
  // Ascending.
  [[nodiscard]] std::span<const UnitIndex> pinned() const { return pinned_; }
  // Pinned or persistent: never evicted, and not among those that victims() chooses from.
  [[nodiscard]] bool is_held(UnitIndex unit) const { return is_held_[unit]; }

  // Uses until the unit is used after `position`; UseTrace::kNever.
  [[nodiscard]] std::size_t next_use(UnitIndex unit, std::size_t position) const {
    return trace_.next_use(unit, position);
  }

  // Whether a unit stays that was used at `position`, or came unexpected there; `live_elements` with it.
  [[nodiscard]] bool should_keep(UnitIndex unit, std::size_t position, std::uint64_t live_elements) const;

  // Units to read ahead while the use at `position` goes on, in the order of their use, without those in
  // memory or on their way (`is_resident`, by unit). Stop at the first for which there is no room.
  [[nodiscard]] std::vector<UnitIndex> upcoming(std::size_t position,
                                                const std::vector<bool>& is_resident) const;
  // The same before the first use.
  [[nodiscard]] std::vector<UnitIndex> upcoming_first(const std::vector<bool>& is_resident) const;
  // Whether the uses of this step, or those after `position`, are expected to read anything.
  [[nodiscard]] bool reads_at_all() const { return reads_end_ > 0; }
  [[nodiscard]] bool reads_after(std::size_t position) const { return position + 1 < reads_end_; }

  // Which of the `idle` units (in memory, not in use) to evict for so many elements: those used furthest in
  // the future. For a unit needed `needed_in` uses later, only units that are needed still later and that the
  // plan does not keep until then (what was read ahead and not used, what came unexpected), and none if these
  // are too few: to evict what the plan keeps would be a fetch more. A unit that is needed now (0) gets all
  // there is.
  [[nodiscard]] std::vector<UnitIndex> victims(std::size_t position, std::uint64_t elements,
                                               std::span<const UnitIndex> idle,
                                               std::size_t needed_in = 0) const;

  // See slack_seconds(): write back while it is more than 0, or where memory for it runs out.
  [[nodiscard]] double slack_seconds(std::size_t position) const { return slack_[position]; }

 private:
  class ReadAhead;

  void hold(const PlanInput& input, ResidentUnits& start);
  void list_actions(std::span<const UnitIndex> released, std::span<const Action> updates);

  UseTrace trace_;
  std::vector<UnitSize> units_;
  PlanLimits limits_;
  ReuseDistance distance_;
  std::vector<UnitIndex> pinned_;
  std::vector<bool> is_held_;  // by unit
  std::vector<bool> is_hit_;   // by use of this step and the next, as is_kept_
  std::vector<bool> is_kept_;
  std::vector<Action> fetches_;
  std::size_t reads_end_ = 0;  // behind the last position of this step whose unit is read from the drive for it
  std::vector<Action> actions_;
  std::vector<double> slack_;  // by position
};

}  // namespace orlop::zero3
