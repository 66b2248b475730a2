#include "bench/trace_policies.hpp"

#include <algorithm>
#include <utility>

namespace orlop::bench {

using zero3::UnitIndex;
using zero3::UnitUse;
using zero3::VirtualMemory;

void LruPolicy::begin_use(const UnitUse& use, double, VirtualMemory& memory) {
  by_use_.remove(use.unit);
  if (!memory.is_resident(use.unit)) {
    while (!by_use_.empty() && memory.live_elements() + memory.elements_of(use.unit) > max_live_elements_) {
      memory.evict(by_use_.front());
      by_use_.pop_front();
    }
    memory.fetch(use.unit);
  }
  by_use_.push_back(use.unit);
}

DeepSpeedPolicy::DeepSpeedPolicy(std::size_t unit_count, const zero3::PlanLimits& limits)
    : limits_(limits), fetched_to_(unit_count) {}

void DeepSpeedPolicy::begin_use(const UnitUse& use, double, VirtualMemory& memory) {
  const std::size_t position = seen_.size();
  if (position >= trace_.size() || trace_[position] != use.unit) trace_.clear();
  seen_.push_back(use.unit);
  if (!memory.is_resident(use.unit)) memory.fetch(use.unit);
  cursor_ = std::max(cursor_, position + 1);
  fetched_to_[use.unit] = std::max(fetched_to_[use.unit], position + 1);
}

void DeepSpeedPolicy::read_ahead(VirtualMemory& memory) {
  const std::uint64_t live = memory.live_elements();
  const std::uint64_t limit = std::min(limits_.max_live_elements - std::min(limits_.max_live_elements, live),
                                       limits_.prefetch_elements);
  std::uint64_t fetched = 0;
  for (; cursor_ < trace_.size() && fetched < limit; ++cursor_) {
    const UnitIndex unit = trace_[cursor_];
    fetched_to_[unit] = std::max(fetched_to_[unit], cursor_ + 1);
    if (memory.is_resident(unit)) continue;
    memory.fetch(unit);
    fetched += memory.elements_of(unit);
  }
}

void DeepSpeedPolicy::end_use(UnitIndex unit, VirtualMemory& memory) {
  const bool is_persistent = memory.elements_of(unit) <= limits_.persistence_elements;
  if (!is_persistent && !is_used_again(unit, memory)) memory.evict(unit);
}

bool DeepSpeedPolicy::is_used_again(UnitIndex unit, const VirtualMemory& memory) const {
  if (trace_.empty()) return false;
  if (fetched_to_[unit] > seen_.size()) return true;
  std::uint64_t passed = 0;
  for (std::size_t use = seen_.size(); use < trace_.size() && passed < limits_.max_reuse_distance_elements;
       ++use) {
    if (trace_[use] == unit) return true;
    passed += memory.elements_of(trace_[use]);
  }
  return false;
}

void DeepSpeedPolicy::end_step(double, VirtualMemory& memory) {
  for (UnitIndex unit = 0; unit < fetched_to_.size(); ++unit) {
    const bool is_persistent = memory.elements_of(unit) <= limits_.persistence_elements;
    if (memory.is_resident(unit) && !is_persistent) memory.evict(unit);
  }
  trace_ = std::exchange(seen_, {});
  std::ranges::fill(fetched_to_, 0);
  cursor_ = 0;
}

}  // namespace orlop::bench
