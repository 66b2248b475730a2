// Retention: which units stay in memory from one use to the next.
//
// An eviction is decided where its room is needed and happens where the unit was last used: the first
// opportunity. What is evicted for a use is needed after it by construction, so no eviction does harm (P.
// Cao, E. Felten, A. Karlin, K. Li: "A study of integrated prefetching and caching strategies", SIGMETRICS
// 1995; this is their Conservative, with the fewest fetches and at most twice the shortest time).
#pragma once

#include <cstdint>
#include <vector>

#include "zero3/planner/plan_input.hpp"

namespace orlop::zero3 {

// Whom an eviction takes first. The furthest next use is optimal for units of one size (L. Belady: "A study
// of replacement algorithms for a virtual-storage computer", IBM Systems Journal 5, 1966). For several sizes
// no fast algorithm is (M. Chrobak et al.: "Caching is hard, even in the fault model", 2012), and now and
// then one of the others fetches less: LRU's order, and the one that keeps what a limit of the reuse distance
// would.
enum class EvictionOrder : std::uint8_t { furthest_next_use, least_recent_use, longest_reuse };

// Memory as a step finds it.
struct ResidentUnits {
  std::vector<bool> is_held;      // by unit: stays for good once it is there, pinned or persistent
  std::vector<bool> is_resident;  // by unit: there as the step begins
  std::uint64_t room_elements;    // for what is not held
};

// Of two steps in a row; those of the second, which the next plan decides again, say what the first may read
// ahead.
struct Retention {
  std::vector<bool> is_hit;         // by use: the unit is there, held or kept
  std::vector<bool> is_kept;        // by use: the unit stays until its next use
  std::vector<UnitIndex> released;  // resident as the step begins, and evicted then
  std::uint64_t visits = 0;         // uses and units looked at: what it cost, on any machine
};

// Uses, elements between them: sums over two steps.
class ReuseDistance {
 public:
  ReuseDistance(const UseTrace& trace, std::span<const UnitSize> units);
  // Elements used after `position` and before the unit there is used again, which is `next` uses later.
  [[nodiscard]] std::uint64_t elements(std::size_t position, std::size_t next) const {
    return sums_[position + next] - sums_[position + 1];
  }

 private:
  std::vector<std::uint64_t> sums_;
};

Retention retain(const PlanInput& input, const ResidentUnits& start, EvictionOrder order);

// By unit: fetches in three steps in a row, counted from the step `first` (0 to 2) on.
std::vector<std::uint32_t> count_fetches(const PlanInput& input, const ResidentUnits& start, EvictionOrder order,
                                         std::size_t first);

// The order that fetches the fewest bytes in three steps; the furthest next use unless another is better.
EvictionOrder choose_order(const PlanInput& input, const ResidentUnits& start);

}  // namespace orlop::zero3
