// Pinning: which units stay in memory for good, so that they are never fetched.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "zero3/planner/plan_input.hpp"

namespace orlop::zero3 {

struct PinCandidate {
  UnitIndex unit;
  std::uint64_t bytes;        // of memory
  std::uint64_t saved_bytes;  // of I/O a step
};

// The candidates to pin within `budget_bytes`: by value density, I/O bytes saved a step for a byte of memory
// (G. Dantzig: "Discrete-variable extremum problems", Operations Research 5, 1957), at least half of the best
// there is. Those of one density are spread evenly over their order, the order of use, so that what remains
// to be read comes evenly.
std::vector<UnitIndex> pin(std::span<const PinCandidate> candidates, std::uint64_t budget_bytes);

// The smallest units up to limits.persistence_elements, while they fit limits.max_live_elements beside
// the largest of all.
std::vector<UnitIndex> persistent_units(const PlanInput& input);

}  // namespace orlop::zero3
