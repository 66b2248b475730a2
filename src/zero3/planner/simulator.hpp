// Simulator: the steps of a trace on a virtual clock, with one drive that reads at a fixed rate, under any
// policy.
#pragma once

#include <deque>
#include <vector>

#include "zero3/planner/plan_input.hpp"

namespace orlop::zero3 {

// Which units are in memory or on their way, and the drive that reads them.
class VirtualMemory {
 public:
  VirtualMemory(std::span<const UnitSize> units, double read_bytes_per_s);

  // Queues a read of the unit, which takes its memory at once. The unit is not there.
  void fetch(UnitIndex unit);
  // The unit is there; a read that has not ended is taken back.
  void evict(UnitIndex unit);
  // The drive works for so long.
  void advance(double seconds);
  // Reads the unit before everything else; the seconds until it is there.
  double wait(UnitIndex unit);

  [[nodiscard]] bool is_resident(UnitIndex unit) const { return is_resident_[unit]; }
  [[nodiscard]] const std::vector<bool>& resident() const { return is_resident_; }
  [[nodiscard]] std::uint64_t elements_of(UnitIndex unit) const { return units_[unit].elements; }
  [[nodiscard]] std::uint64_t live_elements() const { return live_elements_; }
  [[nodiscard]] double bytes_read() const { return bytes_read_; }

 private:
  struct Read {
    UnitIndex unit;
    double bytes;  // left
  };

  std::span<const UnitSize> units_;
  const double read_bytes_per_s_;
  std::vector<bool> is_resident_;
  std::deque<Read> reads_;
  std::uint64_t live_elements_ = 0;
  double bytes_read_ = 0;
};

// Decides what is in memory. Uses come as they do in training: the next is not known before it is there.
class Policy {
 public:
  virtual ~Policy() = default;

  // The unit is about to be used; it is resident when this returns. `compute_seconds` went by since the use
  // before.
  virtual void begin_use(const UnitUse& use, double compute_seconds, VirtualMemory& memory) = 0;
  // It is in use, and something else may be read meanwhile.
  virtual void read_ahead(VirtualMemory& memory) = 0;
  virtual void end_use(UnitIndex unit, VirtualMemory& memory) = 0;
  virtual void end_step(double compute_seconds, VirtualMemory& memory) = 0;
  // Elements in memory of their own, which do not count as live.
  [[nodiscard]] virtual std::uint64_t pinned_elements() const { return 0; }
};

struct StepOutcome {
  double bytes_fetched = 0;
  double stall_seconds = 0;
  double compute_seconds = 0;
  std::uint64_t peak_live_elements = 0;
};

// One outcome for each step, in a row, from empty memory.
std::vector<StepOutcome> simulate(std::span<const std::vector<UnitUse>> steps,
                                  std::span<const UnitSize> units, double read_bytes_per_s, Policy& policy);

}  // namespace orlop::zero3
