// Schedule: when, in a step, units are fetched, evicted and updated.
#pragma once

#include <vector>

#include "zero3/planner/retention.hpp"

namespace orlop::zero3 {

enum class ActionKind : std::uint8_t { fetch, evict, update };

// Positions are those of the trace; from trace.size() on, of the step after.
// - fetch: issued once use `issue` has begun; there before use `deadline` begins. Issued before that use,
// with nothing
//   to hide it, if the two are equal: there is no room any sooner.
// - evict: issued once use `issue` has ended; done before use `deadline` begins. Of what the step finds in
// memory and
//   has no room for: both 0.
// - update: of the unit's states and parameters, by the gradients of the step before. Issued once use `issue`
// has begun
//   (before use 0, if `deadline` is 0) and before the unit's first fetch of the step, which may be the same
//   read.
struct Action {
  ActionKind kind;
  UnitIndex unit;
  std::size_t issue;
  std::size_t deadline;

  bool operator==(const Action&) const = default;
};

// `start` here and below is what is left once retention.released is.
// In the order of use, which is the order of issue too: each as soon as there is room without evicting
// anything, no further ahead than the limits allow, and no unit that is updated at the end of the step before
// that.
std::vector<Action> schedule_fetches(const PlanInput& input, const ResidentUnits& start,
                                     const Retention& retention);

// By position: how long the drive may do something else, from the begin of that use on, without making a
// later use of this step or the next wait for its fetch. Negative: some use will wait whatever is done
// ("Forestall", T. Kimbrel et al.: "A trace-driven comparison of algorithms for parallel prefetching and
// caching", OSDI 1996).
std::vector<double> slack_seconds(const PlanInput& input, const Retention& retention);

// In the order of first use. What is in memory as the step begins is updated before use 0, the rest as soon
// as the slack hides it and at the latest with the unit's fetch: reads first while slack is short.
std::vector<Action> schedule_updates(const PlanInput& input, const ResidentUnits& start,
                                     std::span<const Action> fetches, std::span<const double> slack);

}  // namespace orlop::zero3
