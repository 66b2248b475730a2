// MemoryPlan: what a run takes of every tier, by the allocators' own arithmetic, and whether that fits; decided before
// anything is allocated or created.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/result.hpp"
#include "swap/states.hpp"
#include "zero3/flat_buffers.hpp"
#include "zero3/residence.hpp"

namespace orlop::zero3 {

struct SlabRange {
  unsigned least;
  unsigned most;
};

// Parameters of the store in memory of the program's, on its device: in use, or kept for their next use.
struct LiveDemand {
  std::uint64_t least_bytes = 0;  // of the largest unit and those that are held meanwhile
  std::uint64_t most_bytes = 0;   // that the limits allow
  std::string largest;            // the name of the largest parameter of the largest unit
  bool is_on_host = true;
  std::uint64_t held_bytes = 0;  // of the least
  std::uint64_t least_elements = 0;
};

struct MemoryDemand {
  FlatBytes flat;             // parameters and gradients
  std::uint64_t table_bytes;  // of the engine itself
  std::span<const BlockUse> blocks;
  unsigned slab_count;             // fixed by the configuration; 0: as many as fit
  SlabRange plane_slabs = {0, 0};  // for parameters in the store; as many as fit
  std::optional<double> pinned;    // the share of what is offloaded that is to be in memory; none: what fits the budget
  std::size_t drive_count = 1;
  LiveDemand live;                 // more than the least of what everything else leaves
  std::uint64_t activation_bytes = 0;  // set aside for the program's activations, on the host
};

struct MemoryLimits {
  std::optional<std::uint64_t> host_budget;
  std::optional<std::uint64_t> nvme_budget;
  std::optional<std::uint64_t> device_budget;
  std::uint64_t host_available;    // of the machine or its cgroup, now
  std::uint64_t device_available;  // 0 for the host device
};

struct MemoryPlan {
  unsigned slab_count = 0;
  unsigned plane_slab_count = 0;
  Residence residence;
  double pinned_fraction = 0;  // see saved_fraction()
  std::uint64_t live_bytes = 0;  // of these, on the host or on the device
  std::uint64_t activation_bytes = 0;
  std::uint64_t host_bytes = 0;
  std::uint64_t device_bytes = 0;
  swap::TierUse states;
};

// As many slabs as fit beside the largest unit, up to swap::kDefaultSlabs, unless their number is fixed; those for
// parameters give way first. What is left of a host budget then holds of the offloaded planes as many as fit, which are in
// no store, and what is left of that, live units. Errors: ORLOP_NO_MEMORY or ORLOP_NO_SPACE with every part and the exact
// shortfall.
Result<MemoryPlan> plan_memory(const MemoryDemand& demand, const MemoryLimits& limits);

}  // namespace orlop::zero3
