// Blocks: how this rank's shards are cut into what moves between tiers.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "swap/block.hpp"
#include "zero3/unit.hpp"

namespace orlop::zero3 {

// At most. A block of a bf16 parameter's states is 20 MiB then, of an fp32 one 16 MiB.
inline constexpr std::uint64_t kBlockElements = 2u << 20;

struct Block {
  std::uint32_t unit;
  Range range;  // of the unit's elements
};

// Appends the blocks of a range of a unit, a multiple of kShardGrain, of nearly equal size.
void cut_range(std::uint32_t unit, Range range, std::uint64_t most_elements, std::vector<Block>& blocks);

// The blocks of this rank's shards that have states or live in the store, in order of units, frozen ones last; no block spans two units, and those of one unit are
// of nearly equal size.
std::vector<Block> cut_blocks(const UnitPlan& plan, int rank, int world_size,
                              std::uint64_t most_elements = kBlockElements);

std::vector<swap::BlockSpec> block_specs(const UnitPlan& plan, std::span<const Block> blocks,
                                         kernels::Optimizer optimizer);

}  // namespace orlop::zero3
