// Trace policies: what a plan is compared with.
#pragma once

#include <list>
#include <vector>

#include "zero3/planner/simulator.hpp"

namespace orlop::bench {

// A cache that knows nothing of the trace: fetches on demand, evicts what was used the longest ago.
class LruPolicy final : public zero3::Policy {
 public:
  explicit LruPolicy(std::uint64_t max_live_elements) : max_live_elements_(max_live_elements) {}

  void begin_use(const zero3::UnitUse& use, double compute_seconds, zero3::VirtualMemory& memory) override;
  void read_ahead(zero3::VirtualMemory&) override {}
  void end_use(zero3::UnitIndex, zero3::VirtualMemory&) override {}
  void end_step(double, zero3::VirtualMemory&) override {}

 private:
  const std::uint64_t max_live_elements_;
  std::list<zero3::UnitIndex> by_use_;  // the last used is last
};

// DeepSpeed's rule (0.19, runtime/zero/partitioned_param_coordinator.py). In a step that repeats the one
// before: fetches in the order of the trace, at every use a prefetch bucket more while fewer than
// max_live_elements are there; a unit is released after its use unless it is used again in the step before
// max_reuse_distance_elements others, or a prefetch has passed such a use already. max_live_elements stops
// prefetches only: a use is served above it. In a first step, or once a use differs, units are fetched on
// demand and released after use. Nothing stays beyond the step.
class DeepSpeedPolicy final : public zero3::Policy {
 public:
  DeepSpeedPolicy(std::size_t unit_count, const zero3::PlanLimits& limits);

  void begin_use(const zero3::UnitUse& use, double compute_seconds, zero3::VirtualMemory& memory) override;
  void read_ahead(zero3::VirtualMemory& memory) override;
  void end_use(zero3::UnitIndex unit, zero3::VirtualMemory& memory) override;
  void end_step(double compute_seconds, zero3::VirtualMemory& memory) override;

 private:
  [[nodiscard]] bool is_used_again(zero3::UnitIndex unit, const zero3::VirtualMemory& memory) const;

  const zero3::PlanLimits limits_;
  std::vector<zero3::UnitIndex> trace_;  // of the step before; empty when there is none to follow
  std::vector<zero3::UnitIndex> seen_;   // of this step
  std::vector<std::size_t> fetched_to_;  // by unit: the last use that a fetch has passed, plus 1
  std::size_t cursor_ = 0;               // the first use that no fetch has passed
};

}  // namespace orlop::bench
