// TieredStates: blocks of which some planes stay in host memory for good, and the others in a store on NVMe.
//
// A sweep visits what is wholly in memory while it would wait for the store, so that the drive never waits for it.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "swap/nvme_states.hpp"
#include "swap/states.hpp"

namespace orlop::swap {

// What make_tiered_states will take, by the same arithmetic. `resident`: by block, the planes that stay in memory; a
// block with none in the store has no part in it, and where none has there is no store.
TierUse tiered_states_use(std::span<const BlockSpec> blocks, std::span<const PlaneSet> resident, unsigned slab_count,
                          unsigned plane_slab_count, std::size_t drive_count = 1);

Result<std::unique_ptr<States>> make_tiered_states(const numa::Topology& topology, std::span<const BlockSpec> blocks,
                                                   std::span<const PlaneSet> resident, const NvmeOptions& options);

}  // namespace orlop::swap
