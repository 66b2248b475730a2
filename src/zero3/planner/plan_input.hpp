// PlanInput: all that a plan depends on.
#pragma once

#include <cstdint>
#include <limits>
#include <span>

#include "zero3/planner/use_trace.hpp"

namespace orlop::zero3 {

struct UnitSize {
  std::uint64_t elements = 0;            // of the whole unit: what limits count
  std::uint64_t fetch_bytes = 0;         // read from the drive by a fetch
  std::uint64_t update_read_bytes = 0;   // states that its update reads; both 0: a frozen unit
  std::uint64_t update_write_bytes = 0;  // states and parameters that its update writes

  [[nodiscard]] bool is_updated() const { return update_read_bytes + update_write_bytes != 0; }
};

struct PlanLimits {
  static constexpr std::uint64_t kNone = std::numeric_limits<std::uint64_t>::max();

  // Elements that are live at a time, the unit in use among them. A unit that is larger is used alone and not
  // kept.
  std::uint64_t max_live_elements = kNone;  // stage3_max_live_parameters
  // A unit is kept only if fewer elements than these are used before it is again.
  std::uint64_t max_reuse_distance_elements = kNone;  // stage3_max_reuse_distance
  // Elements fetched ahead of their use; one unit always may, unless this is 0.
  std::uint64_t prefetch_elements = kNone;  // stage3_prefetch_bucket_size
  // Units up to this size are live all the time, the smallest first, while they fit beside the largest.
  std::uint64_t persistence_elements = 0;  // stage3_param_persistence_threshold
  // Memory for parameters that are never fetched, and what of it moves need. Pinned units do not count as
  // live.
  std::uint64_t budget_bytes = 0;
  std::uint64_t staging_bytes = 0;
};

// As measured; more than 0. Reads and writes add up on a drive.
struct DriveRates {
  double read_bytes_per_s = 1;
  double write_bytes_per_s = 1;
};

struct PlanInput {
  const UseTrace& trace;
  std::span<const UnitSize> units;  // by UnitIndex
  PlanLimits limits;
  DriveRates rates;
};

}  // namespace orlop::zero3
