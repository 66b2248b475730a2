#include "zero3/planner/retention.hpp"

#include <algorithm>
#include <set>
#include <utility>

namespace orlop::zero3 {
namespace {

// Serves the uses of several steps as a cache would, and notes whom it evicts. Times count from the step
// before, so that what is there at the start was last used in [0, trace.size()).
class Sweep {
 public:
  Sweep(const PlanInput& input, const ResidentUnits& start, EvictionOrder order, std::size_t steps)
      : input_(input),
        start_(start),
        order_(order),
        distance_(input.trace, input.units),
        end_((steps + 1) * input.trace.size()),
        last_(input.units.size(), UseTrace::kNever),
        rank_(input.units.size()) {
    result_.is_hit.resize(steps * input.trace.size());
    result_.is_kept.resize(steps * input.trace.size(), true);
    for (UnitIndex unit = 0; unit < input.units.size(); ++unit) {
      if (start.is_resident[unit] && !start.is_held[unit]) admit(unit, first_rank(unit));
    }
    make_room(0);
  }

  Retention run() && {
    for (std::size_t use = 0; use < result_.is_hit.size(); ++use) serve(use);
    return std::move(result_);
  }

 private:
  static constexpr std::size_t kTakenBack = 8;  // at most, so that a sweep costs no more than its evictions

  [[nodiscard]] std::uint64_t size_of(UnitIndex unit) const { return input_.units[unit].elements; }

  void serve(std::size_t use) {
    const std::size_t position = use % input_.trace.size();
    const UnitIndex unit = input_.trace[position].unit;
    ++result_.visits;
    const bool is_first = std::exchange(last_[unit], use) == UseTrace::kNever;
    if (start_.is_held[unit]) {
      result_.is_hit[use] = !is_first || start_.is_resident[unit];
      return;
    }
    result_.is_hit[use] = take(unit);
    make_room(size_of(unit));
    result_.is_kept[use] = may_stay(unit, position);
    if (result_.is_kept[use]) admit(unit, rank(unit, use + input_.trace.size()));
  }

  // Whether it was there, not to be counted as idle now.
  bool take(UnitIndex unit) {
    if (idle_.erase({rank_[unit], unit}) == 0) return false;
    live_ -= size_of(unit);
    return true;
  }

  void admit(UnitIndex unit, std::size_t rank) {
    rank_[unit] = rank;
    idle_.emplace(rank, unit);
    live_ += size_of(unit);
  }

  [[nodiscard]] bool may_stay(UnitIndex unit, std::size_t position) const {
    const std::size_t next = input_.trace.next_use(unit, position);
    const bool is_near = distance_.elements(position, next) < input_.limits.max_reuse_distance_elements;
    return next == 1 || (is_near && size_of(unit) <= start_.room_elements);
  }

  // The highest goes first.
  [[nodiscard]] std::size_t rank(UnitIndex unit, std::size_t time) const {
    const std::size_t position = time % input_.trace.size();
    const std::size_t next = input_.trace.next_use(unit, position);
    switch (order_) {
      case EvictionOrder::furthest_next_use:
        return time + next;
      case EvictionOrder::least_recent_use:
        return end_ - time;
      case EvictionOrder::longest_reuse:
        return distance_.elements(position, next);
    }
    return 0;
  }

  [[nodiscard]] std::size_t first_rank(UnitIndex unit) const {
    const auto positions = input_.trace.positions_of(unit);
    return positions.empty() ? UseTrace::kNever : rank(unit, positions.back());
  }

  // Evicts until `elements` fit beside what stays. Those of the last victims that turn out to fit after all
  // are taken back: a large unit may have made the room of several small ones.
  void make_room(std::uint64_t elements) {
    const std::uint64_t room = start_.room_elements - std::min(start_.room_elements, elements);
    std::vector<std::pair<std::size_t, UnitIndex>> victims;
    while (live_ > room) {
      victims.push_back(*idle_.rbegin());
      take(victims.back().second);
    }
    result_.visits += victims.size();
    const std::size_t certain = victims.size() - std::min(victims.size(), kTakenBack);
    for (std::size_t i = victims.size(); i-- > 0;) {
      const auto [rank, victim] = victims[i];
      if (i >= certain && live_ + size_of(victim) <= room) {
        admit(victim, rank);
      } else {
        evict(victim);
      }
    }
  }

  void evict(UnitIndex unit) {
    if (last_[unit] == UseTrace::kNever) {
      result_.released.push_back(unit);
    } else {
      result_.is_kept[last_[unit]] = false;
    }
  }

  const PlanInput& input_;
  const ResidentUnits& start_;
  const EvictionOrder order_;
  const ReuseDistance distance_;
  const std::size_t end_;
  Retention result_;
  std::set<std::pair<std::size_t, UnitIndex>> idle_;  // by rank
  std::vector<std::size_t> last_;                     // by unit: its last use
  std::vector<std::size_t> rank_;                     // by unit: of those in idle_
  std::uint64_t live_ = 0;                            // elements in idle_
};

std::uint64_t bytes_of_steps(const PlanInput& input, const ResidentUnits& start, EvictionOrder order) {
  const auto fetches = count_fetches(input, start, order, 0);
  std::uint64_t bytes = 0;
  for (UnitIndex unit = 0; unit < fetches.size(); ++unit)
    bytes += fetches[unit] * input.units[unit].fetch_bytes;
  return bytes;
}

}  // namespace

ReuseDistance::ReuseDistance(const UseTrace& trace, std::span<const UnitSize> units) {
  sums_.reserve(2 * trace.size() + 1);
  sums_.push_back(0);
  for (std::size_t use = 0; use < 2 * trace.size(); ++use) {
    sums_.push_back(sums_.back() + units[trace[use % trace.size()].unit].elements);
  }
}

Retention retain(const PlanInput& input, const ResidentUnits& start, EvictionOrder order) {
  return Sweep(input, start, order, 2).run();
}

std::vector<std::uint32_t> count_fetches(const PlanInput& input, const ResidentUnits& start, EvictionOrder order,
                                         std::size_t first) {
  const std::size_t n = input.trace.size();
  const Retention found = Sweep(input, start, order, 3).run();
  std::vector<std::uint32_t> fetches(input.units.size());
  for (std::size_t use = first * n; use < 3 * n; ++use) {
    if (!found.is_hit[use]) ++fetches[input.trace[use % n].unit];
  }
  return fetches;
}

EvictionOrder choose_order(const PlanInput& input, const ResidentUnits& start) {
  EvictionOrder best = EvictionOrder::furthest_next_use;
  std::uint64_t least = bytes_of_steps(input, start, best);
  for (const EvictionOrder order : {EvictionOrder::least_recent_use, EvictionOrder::longest_reuse}) {
    const std::uint64_t bytes = bytes_of_steps(input, start, order);
    if (bytes < least) {
      least = bytes;
      best = order;
    }
  }
  return best;
}

}  // namespace orlop::zero3
