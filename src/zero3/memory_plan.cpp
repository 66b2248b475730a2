#include "zero3/memory_plan.hpp"

#include <algorithm>
#include <utility>

#include "base/bytes.hpp"
#include "swap/tiered_states.hpp"

namespace orlop::zero3 {
namespace {

struct Slabs {
  unsigned of_blocks;
  unsigned of_planes;
};

bool is_offloaded(const MemoryDemand& demand) {
  return std::ranges::any_of(demand.blocks, [](const BlockUse& use) { return !use.offloaded.empty(); });
}

MemoryPlan plan_of(const MemoryDemand& demand, Slabs slabs, Residence residence) {
  MemoryPlan plan;
  plan.slab_count = slabs.of_blocks;
  plan.plane_slab_count = fetched_blocks(demand.blocks, residence) == 0 ? 0 : slabs.of_planes;
  plan.states = swap::tiered_states_use(specs_of(demand.blocks), residence, plan.slab_count, plan.plane_slab_count,
                                        demand.drive_count);
  plan.live_bytes = demand.live.least_bytes;
  plan.activation_bytes = demand.activation_bytes;
  plan.host_bytes = demand.flat.host + demand.table_bytes + demand.activation_bytes + plan.states.host_bytes;
  plan.device_bytes = demand.flat.device;
  (demand.live.is_on_host ? plan.host_bytes : plan.device_bytes) += plan.live_bytes;
  plan.pinned_fraction = saved_fraction(demand.blocks, residence);
  plan.residence = std::move(residence);
  if (plan.states.nvme_bytes == 0) plan.slab_count = 0;
  return plan;
}

std::uint64_t host_limit(const MemoryLimits& limits) { return limits.host_budget.value_or(limits.host_available); }
std::uint64_t device_limit(const MemoryLimits& limits) { return limits.device_budget.value_or(limits.device_available); }

// By what nothing else needs.
void widen_live(const LiveDemand& live, const MemoryLimits& limits, MemoryPlan& plan) {
  std::uint64_t& taken = live.is_on_host ? plan.host_bytes : plan.device_bytes;
  const std::uint64_t free = (live.is_on_host ? host_limit(limits) : device_limit(limits)) - taken;
  const std::uint64_t more = std::min(free, live.most_bytes - live.least_bytes);
  plan.live_bytes += more;
  taken += more;
}

// The part of a sentence that says what units in use need; none where all parameters are in memory anyway.
std::string live_part(const LiveDemand& live) {
  if (live.least_bytes == 0) return {};
  const std::string held = live.held_bytes == 0 ? "" : fmt::format(", what encloses it {}", live.held_bytes);
  return fmt::format(", the largest unit of the store while in use (\"{}\") {}{}", live.largest,
                     live.least_bytes - live.held_bytes, held);
}

// The next smaller choice; false where there is none.
bool shrink(const MemoryDemand& demand, Slabs& slabs) {
  if (!is_offloaded(demand)) return false;
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
  const std::string activations =
      demand.activation_bytes == 0 ? "" : fmt::format(", orlop.memory.activations {}", demand.activation_bytes);
  return fmt::format("parameters and gradients {}{}{}, optimizer states and their tables {}, {} slabs {}, engine {}",
                     demand.flat.host, demand.live.is_on_host ? live_part(demand.live) : "", activations, held,
                     plan.slab_count + plan.plane_slab_count, plan.states.staging_bytes, demand.table_bytes);
}

bool fits_host(const MemoryLimits& limits, const MemoryPlan& plan) { return plan.host_bytes <= host_limit(limits); }

// The largest share of what is offloaded, in hundredths, that fits; none: not even nothing does.
std::optional<int> percent_that_fits(const MemoryDemand& demand, const MemoryLimits& limits, Slabs slabs) {
  for (int percent = static_cast<int>(demand.pinned.value_or(0) * 100); percent >= 0; --percent) {
    if (fits_host(limits, plan_of(demand, slabs, residence_of_share(demand.blocks, percent / 100.0)))) return percent;
  }
  return std::nullopt;
}

// The most slabs of a kind that fit; none: not even the fewest do.
std::optional<unsigned> slabs_that_fit(const MemoryDemand& demand, const MemoryLimits& limits, Slabs slabs,
                                       unsigned Slabs::* kind, unsigned least) {
  const Residence residence = least_residence(demand.blocks);
  for (; slabs.*kind >= least; --(slabs.*kind)) {
    if (fits_host(limits, plan_of(demand, slabs, residence))) return slabs.*kind;
  }
  return std::nullopt;
}

// What to write instead, besides more memory: of what the configuration asks for, that which takes what is missing.
std::string other_remedy(const MemoryDemand& demand, const MemoryLimits& limits, Slabs slabs) {
  if (!is_offloaded(demand)) return "put the optimizer states on disk (offload_optimizer.device \"nvme\")";
  if (demand.pinned.value_or(0) > 0) {
    const auto percent = percent_that_fits(demand, limits, slabs);
    if (percent) return fmt::format("lower orlop.memory.pinned ({}) to {}", *demand.pinned, *percent / 100.0);
  }
  if (demand.plane_slabs.least > swap::kMinimumPlaneSlabs) {
    const auto count = slabs_that_fit(demand, limits, slabs, &Slabs::of_planes, swap::kMinimumPlaneSlabs);
    if (count) return fmt::format("lower offload_param.buffer_count ({}) to {}", slabs.of_planes, *count);
  }
  if (demand.slab_count > swap::kMinimumSlabs) {
    const auto count = slabs_that_fit(demand, limits, slabs, &Slabs::of_blocks, swap::kMinimumSlabs);
    if (count) return fmt::format("lower offload_optimizer.buffer_count ({}) to {}", slabs.of_blocks, *count);
  }
  return "train fewer parameters";
}

Result<> expect_fits_host(const MemoryDemand& demand, const MemoryLimits& limits, Slabs slabs, const MemoryPlan& plan) {
  if (fits_host(limits, plan)) return {};
  const bool has_budget = limits.host_budget.has_value();
  const std::uint64_t limit = host_limit(limits);
  return fail(ORLOP_NO_MEMORY, "host memory: on {} ({} bytes): needs {} bytes ({}), {} bytes too many; {} or {}",
              has_budget ? "the budget orlop.memory.host" : "what this machine can give", limit, plan.host_bytes,
              parts_of(demand, plan), plan.host_bytes - limit, has_budget ? "raise the budget" : "free memory",
              other_remedy(demand, limits, slabs));
}

Result<> fits_nvme(const MemoryLimits& limits, const MemoryPlan& plan) {
  if (!limits.nvme_budget || plan.states.nvme_bytes <= *limits.nvme_budget) return {};
  return fail(ORLOP_NO_SPACE,
              "nvme: on the budget orlop.memory.nvme ({} bytes): the store needs {} bytes, {} bytes too many; raise "
              "the budget",
              *limits.nvme_budget, plan.states.nvme_bytes, plan.states.nvme_bytes - *limits.nvme_budget);
}

Result<> fits_device(const MemoryDemand& demand, const MemoryLimits& limits, const MemoryPlan& plan) {
  if (plan.device_bytes == 0) return {};
  const std::uint64_t limit = device_limit(limits);
  if (plan.device_bytes <= limit) return {};
  return fail(ORLOP_NO_MEMORY, "device memory: on {} ({} bytes): parameters need {} bytes ({} in memory{}), {} bytes too many",
              limits.device_budget ? "the budget orlop.memory.device" : "what the device has free", limit,
              plan.device_bytes, demand.flat.device, live_part(demand.live), plan.device_bytes - limit);
}

constexpr int kPinTries = 8;

// All of it where there is room, as that needs no ring. Otherwise as much as fits: what is pinned needs tables, too, and may
// need fewer slabs, so each try takes the room that the one before left, or what it took too much.
MemoryPlan pin_what_fits(const MemoryDemand& demand, std::uint64_t budget, Slabs slabs, MemoryPlan least) {
  if (MemoryPlan all = plan_of(demand, slabs, whole_residence(demand.blocks)); all.host_bytes <= budget) return all;
  if (least.host_bytes > budget) return least;
  MemoryPlan best = std::move(least);
  std::uint64_t room = budget - best.host_bytes;
  for (int i = 0; i < kPinTries; ++i) {
    MemoryPlan plan = plan_of(demand, slabs, residence_within(demand.blocks, room));
    room = room + budget > plan.host_bytes ? room + budget - plan.host_bytes : 0;
    if (plan.host_bytes <= budget && plan.pinned_fraction > best.pinned_fraction) best = std::move(plan);
  }
  return best;
}

}  // namespace

Result<MemoryPlan> plan_memory(const MemoryDemand& demand, const MemoryLimits& limits) {
  Slabs slabs{demand.slab_count == 0 ? swap::kDefaultSlabs : demand.slab_count, demand.plane_slabs.most};
  const Residence residence = demand.pinned ? residence_of_share(demand.blocks, *demand.pinned) : least_residence(demand.blocks);
  MemoryPlan plan = plan_of(demand, slabs, residence);
  while (!fits_host(limits, plan) && shrink(demand, slabs)) plan = plan_of(demand, slabs, residence);
  const bool may_pin = limits.host_budget && !demand.pinned && is_offloaded(demand);
  if (may_pin) plan = pin_what_fits(demand, *limits.host_budget, slabs, std::move(plan));
  TRY(expect_fits_host(demand, limits, slabs, plan));
  TRY(fits_nvme(limits, plan));
  TRY(fits_device(demand, limits, plan));
  widen_live(demand.live, limits, plan);
  return plan;
}

}  // namespace orlop::zero3
