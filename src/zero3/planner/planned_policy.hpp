// PlannedPolicy: carries plans out, on the simulator, as an executor does on a drive.
#pragma once

#include <optional>

#include "zero3/planner/plan.hpp"
#include "zero3/planner/simulator.hpp"
#include "zero3/planner/trace_recorder.hpp"

namespace orlop::zero3 {

class PlannedPolicy final : public Policy {
 public:
  PlannedPolicy(std::span<const UnitSize> units, const PlanLimits& limits, const DriveRates& rates);

  void begin_use(const UnitUse& use, double compute_seconds, VirtualMemory& memory) override;
  void read_ahead(VirtualMemory& memory) override;
  void end_use(UnitIndex unit, VirtualMemory& memory) override;
  void end_step(double compute_seconds, VirtualMemory& memory) override;
  [[nodiscard]] std::uint64_t pinned_elements() const override { return pinned_elements_; }

  [[nodiscard]] const TraceRecorder& recorder() const { return recorder_; }

 private:
  [[nodiscard]] bool is_pinned(UnitIndex unit) const;
  void evict(std::span<const UnitIndex> units, VirtualMemory& memory);
  void fetch(UnitIndex unit, VirtualMemory& memory);
  // How many elements there are too many once the unit comes in.
  [[nodiscard]] std::uint64_t excess(UnitIndex unit, const VirtualMemory& memory) const;
  [[nodiscard]] std::vector<UnitIndex> idle(const VirtualMemory& memory) const;

  std::span<const UnitSize> units_;
  const PlanLimits limits_;
  const DriveRates rates_;
  TraceRecorder recorder_;
  Plan plan_;
  std::size_t position_ = 0;
  std::optional<UnitIndex> in_use_;
  std::uint64_t pinned_elements_ = 0;
};

}  // namespace orlop::zero3
