#include "zero3/blocks.hpp"

#include <algorithm>

#include "base/bytes.hpp"

namespace orlop::zero3 {

void cut_range(std::uint32_t unit, Range range, std::uint64_t most_elements, std::vector<Block>& blocks) {
  const std::uint64_t count = divide_up(range.size(), most_elements);
  if (count == 0) return;
  const std::uint64_t elements = align_up(divide_up(range.size(), count), kShardGrain);
  for (std::uint64_t begin = range.begin; begin < range.end; begin += elements) {
    blocks.push_back({unit, {begin, std::min(begin + elements, range.end)}});
  }
}

std::vector<Block> cut_blocks(const UnitPlan& plan, int rank, int world_size, std::uint64_t most_elements) {
  std::vector<Block> blocks;
  const auto cut = [&](const auto& is_wanted) {
    for (std::uint32_t unit = 0; unit < plan.units.size(); ++unit) {
      if (!is_wanted(plan.units[unit])) continue;
      cut_range(unit, used_part(plan.units[unit].content, rank, world_size), most_elements, blocks);
    }
  };
  cut([](const Unit& unit) { return unit.training == Training::trainable; });
  cut([](const Unit& unit) { return unit.training == Training::frozen && unit.home == Home::store; });
  return blocks;
}

std::vector<swap::BlockSpec> block_specs(const UnitPlan& plan, std::span<const Block> blocks,
                                         kernels::Optimizer optimizer) {
  std::vector<swap::BlockSpec> specs;
  specs.reserve(blocks.size());
  for (const Block& block : blocks) {
    specs.push_back({block.range.size(), planes_of(kind_of(plan.units[block.unit]), optimizer)});
  }
  return specs;
}

}  // namespace orlop::zero3
