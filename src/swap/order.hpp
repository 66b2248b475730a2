// What both tiers ask of the order of a sweep.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.hpp"
#include "swap/block.hpp"

namespace orlop::swap {

// Every block is known and comes at most once. `seen` is scratch of one entry per block.
Result<> check_order(std::span<const std::uint32_t> order, std::vector<bool>& seen);

Result<> check_block(std::uint32_t block, std::size_t block_count);

// Not empty, elements in multiples of 2048, at least one plane.
Result<> check_blocks(std::span<const BlockSpec> blocks);

}  // namespace orlop::swap
