#include "swap/order.hpp"

#include <algorithm>

namespace orlop::swap {

inline constexpr std::uint64_t kElementGrain = 2048;

Result<> check_block(std::uint32_t block, std::size_t block_count) {
  if (block < block_count) return {};
  return fail(ORLOP_INVALID_ARGUMENT, "block: {}: there are {}", block, block_count);
}

Result<> check_order(std::span<const std::uint32_t> order, std::vector<bool>& seen) {
  std::fill(seen.begin(), seen.end(), false);
  for (const auto block : order) {
    TRY(check_block(block, seen.size()));
    if (seen[block]) return fail(ORLOP_INVALID_ARGUMENT, "sweep: block {}: comes twice in the order", block);
    seen[block] = true;
  }
  return {};
}

Result<> check_blocks(std::span<const BlockSpec> blocks) {
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const bool is_whole = blocks[i].elements > 0 && blocks[i].elements % kElementGrain == 0;
    if (is_whole) continue;
    return fail(ORLOP_INVALID_ARGUMENT, "block {}: {} elements: must be a positive multiple of {}", i,
                blocks[i].elements, kElementGrain);
  }
  return {};
}

}  // namespace orlop::swap
