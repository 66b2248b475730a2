#include "zero3/memory_plan.hpp"

#include "base/bytes.hpp"
#include "swap/host_states.hpp"
#include "swap/nvme_states.hpp"

namespace orlop::zero3 {
namespace {

struct Slabs {
  unsigned of_blocks;
  unsigned of_planes;
};

swap::TierUse states_use(const MemoryDemand& demand, Slabs slabs) {
  if (demand.tier == StateTier::nvme) return swap::nvme_states_use(demand.blocks, slabs.of_blocks, slabs.of_planes);
  return {.host_bytes = swap::host_states_bytes(demand.blocks)};
}

MemoryPlan with_slabs(const MemoryDemand& demand, Slabs slabs) {
  const swap::TierUse states = states_use(demand, slabs);
  return {slabs.of_blocks, slabs.of_planes, demand.flat.host + demand.table_bytes + states.host_bytes,
          demand.flat.device, states};
}

// The next smaller choice; false where there is none.
bool shrink(const MemoryDemand& demand, Slabs& slabs) {
  if (demand.tier != StateTier::nvme) return false;
  if (slabs.of_planes > demand.plane_slabs.least) {
    --slabs.of_planes;
    return true;
  }
  if (demand.slab_count != 0 || slabs.of_blocks <= swap::kMinimumSlabs) return false;
  --slabs.of_blocks;
  return true;
}

std::string parts_of(const MemoryDemand& demand, const MemoryPlan& plan) {
  const std::uint64_t held = plan.states.host_bytes - plan.states.staging_bytes;
  return fmt::format("parameters and gradients {}, optimizer states and their tables {}, {} slabs {}, engine {}",
                     demand.flat.host, held, plan.slab_count + plan.plane_slab_count, plan.states.staging_bytes,
                     demand.table_bytes);
}

Result<> fits_host(const MemoryDemand& demand, const MemoryLimits& limits, const MemoryPlan& plan) {
  const bool has_budget = limits.host_budget.has_value();
  const std::uint64_t limit = has_budget ? *limits.host_budget : limits.host_available;
  if (plan.host_bytes <= limit) return {};
  const char* const remedy = demand.tier == StateTier::host
                                 ? "put the optimizer states on disk (offload_optimizer.device \"nvme\")"
                                 : "train fewer parameters";
  return fail(ORLOP_NO_MEMORY, "host memory: on {} ({} bytes): needs {} bytes ({}), {} bytes too many; {} or {}",
              has_budget ? "the budget orlop.memory.host" : "what this machine can give", limit, plan.host_bytes,
              parts_of(demand, plan), plan.host_bytes - limit,
              has_budget ? "raise the budget" : "free memory", remedy);
}

Result<> fits_nvme(const MemoryLimits& limits, const MemoryPlan& plan) {
  if (!limits.nvme_budget || plan.states.nvme_bytes <= *limits.nvme_budget) return {};
  return fail(ORLOP_NO_SPACE,
              "nvme: on the budget orlop.memory.nvme ({} bytes): the store needs {} bytes, {} bytes too many; raise "
              "the budget",
              *limits.nvme_budget, plan.states.nvme_bytes, plan.states.nvme_bytes - *limits.nvme_budget);
}

Result<> fits_device(const MemoryLimits& limits, const MemoryPlan& plan) {
  if (plan.device_bytes == 0) return {};
  const std::uint64_t limit = limits.device_budget ? *limits.device_budget : limits.device_available;
  if (plan.device_bytes <= limit) return {};
  return fail(ORLOP_NO_MEMORY, "device memory: on {} ({} bytes): parameters need {} bytes, {} bytes too many",
              limits.device_budget ? "the budget orlop.memory.device" : "what the device has free", limit,
              plan.device_bytes, plan.device_bytes - limit);
}

}  // namespace

Result<MemoryPlan> plan_memory(const MemoryDemand& demand, const MemoryLimits& limits) {
  const bool is_free = demand.tier == StateTier::nvme && demand.slab_count == 0;
  Slabs slabs{is_free ? swap::kDefaultSlabs : demand.slab_count, demand.plane_slabs.most};
  MemoryPlan plan = with_slabs(demand, slabs);
  while (!fits_host(demand, limits, plan) && shrink(demand, slabs)) plan = with_slabs(demand, slabs);
  TRY(fits_host(demand, limits, plan));
  TRY(fits_nvme(limits, plan));
  TRY(fits_device(limits, plan));
  return plan;
}

}  // namespace orlop::zero3
