#include "zero3/blocks.hpp"

#include <gtest/gtest.h>

#include "base/bytes.hpp"

namespace orlop::zero3 {
namespace {

UnitPlan plan_of(std::vector<std::uint64_t> sizes) {
  std::vector<ParamSpec> params;
  for (const auto size : sizes) {
    params.push_back({"p" + std::to_string(params.size()), Dtype::bf16, size, 0, static_cast<int>(params.size())});
  }
  return plan_units(params).value();
}

TEST(Blocks, OfALargeUnitAreNearlyEqualAndCoverIt) {
  const UnitPlan plan = plan_of({kBlockElements * 7 + 12345});
  const auto blocks = cut_blocks(plan, 0, 1);
  ASSERT_EQ(blocks.size(), 8u);
  std::uint64_t next = 0;
  for (const Block& block : blocks) {
    EXPECT_EQ(block.range.begin, next);
    EXPECT_LE(block.range.size(), kBlockElements);
    EXPECT_GT(block.range.size(), kBlockElements / 2);
    EXPECT_TRUE(is_aligned(block.range.size(), kShardGrain));
    next = block.range.end;
  }
  EXPECT_EQ(next, align_up(plan.units[0].content, kShardGrain));
}

TEST(Blocks, NeverSpanTwoUnits) {
  const UnitPlan plan = plan_of({kUnitElements, 10, kUnitElements, 20});
  for (const Block& block : cut_blocks(plan, 0, 1)) {
    EXPECT_LE(block.range.end, align_up(plan.units[block.unit].content, kShardGrain));
  }
}

TEST(Blocks, OfAllRanksCoverAUnitOnce) {
  const UnitPlan plan = plan_of({10'000'000});
  for (const int world_size : {1, 2, 3, 7, 64}) {
    std::uint64_t elements = 0;
    for (int rank = 0; rank < world_size; ++rank) {
      for (const Block& block : cut_blocks(plan, rank, world_size)) elements += block.range.size();
    }
    EXPECT_EQ(elements, align_up(10'000'000, kShardGrain)) << world_size;
  }
}

TEST(Blocks, FrozenUnitsHaveNone) {
  const std::vector<ParamSpec> params = {{"frozen", Dtype::bf16, 5000, 0, 0, Training::frozen}};
  EXPECT_TRUE(cut_blocks(plan_units(params).value(), 0, 1).empty());
}

TEST(Blocks, HoldThePlanesOfTheirDtype) {
  EXPECT_EQ(planes_of(Dtype::f32, kernels::Optimizer::adam).bytes_per_element(), 8u);
  EXPECT_EQ(planes_of(Dtype::bf16, kernels::Optimizer::adam).bytes_per_element(), 10u);
  EXPECT_EQ(planes_of(Dtype::f16, kernels::Optimizer::adam).bytes_per_element(), 12u);
}

}  // namespace
}  // namespace orlop::zero3
