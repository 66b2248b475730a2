#include "zero3/unit.hpp"

#include <random>

#include <gtest/gtest.h>

#include "base/bytes.hpp"

namespace orlop::zero3 {
namespace {

ParamSpec param(std::uint64_t numel, int module = 0, Dtype dtype = Dtype::bf16,
                Training training = Training::trainable, int group = 0) {
  static int number = 0;
  return {"p" + std::to_string(number++), dtype, numel, group, module, training};
}

TEST(Units, SmallModulesThatFollowEachOtherShareOne) {
  std::vector<ParamSpec> params;
  for (int module = 0; module < 200; ++module) params.push_back(param(1000, module));
  const UnitPlan plan = plan_units(params).value();
  EXPECT_EQ(plan.units.size(), 1u);
  EXPECT_EQ(plan.units[0].params.size(), 200u);
}

TEST(Units, AreAsLargeAsIsAskedFor) {
  const std::vector<ParamSpec> params = {param(1000, 0), param(1000, 0), param(1000, 1), param(1000, 2), param(9000, 2)};
  EXPECT_EQ(plan_units(params, 1)->units.size(), 3u);  // a module is never parted
  EXPECT_EQ(plan_units(params, 4000)->units.size(), 2u);
  EXPECT_EQ(plan_units(params)->units.size(), 1u);
}

TEST(Units, AreClosedWhenTheNextModuleDoesNotFit) {
  const std::vector<ParamSpec> params = {param(kUnitElements - 2048, 0), param(4096, 1)};
  EXPECT_EQ(plan_units(params)->units.size(), 2u);
}

TEST(Units, NeverPartOneModule) {
  const std::vector<ParamSpec> params = {param(kUnitElements, 0), param(kUnitElements, 0), param(8, 1)};
  const UnitPlan plan = plan_units(params).value();
  EXPECT_EQ(plan.placements[0].unit, plan.placements[1].unit);
  EXPECT_NE(plan.placements[1].unit, plan.placements[2].unit);
}

TEST(Units, HoldOneDtypeAndOneKindOfTraining) {
  const std::vector<ParamSpec> params = {param(8, 0, Dtype::bf16), param(8, 0, Dtype::f32),
                                         param(8, 0, Dtype::bf16, Training::frozen), param(8, 0, Dtype::bf16)};
  const UnitPlan plan = plan_units(params).value();
  EXPECT_EQ(plan.units.size(), 3u);
  EXPECT_EQ(plan.placements[0].unit, plan.placements[3].unit);
}

TEST(Units, ParametersAreDisjointAlignedAndInOrder) {
  std::mt19937_64 random(2);
  std::vector<ParamSpec> params;
  for (int i = 0; i < 300; ++i) {
    params.push_back(param(1 + random() % 300'000, i / 3, random() % 2 ? Dtype::bf16 : Dtype::f32));
  }
  const UnitPlan plan = plan_units(params).value();
  for (const Unit& unit : plan.units) {
    std::uint64_t end = 0;
    for (const auto id : unit.params) {
      ASSERT_GE(plan.placements[id].offset, end);
      ASSERT_TRUE(is_aligned(plan.placements[id].offset, kReduceElements));
      end = plan.placements[id].offset + params[id].numel;
    }
    ASSERT_EQ(unit.content, end);
  }
}

TEST(Units, RefuseAParameterWhosePaddedSizeWouldOverflow) {
  EXPECT_FALSE(plan_units(std::vector{param(1ull << 60)}));
}

TEST(GroupRanges, CoverTheUnitWithoutGapsAndMergeNeighbours) {
  const std::vector<ParamSpec> params = {param(1500, 0), param(10, 0), param(5000, 0, Dtype::bf16, Training::trainable, 1),
                                         param(7, 0)};
  const UnitPlan plan = plan_units(params).value();
  const auto ranges = group_ranges(plan, 0, params);
  ASSERT_EQ(ranges.size(), 3u);
  EXPECT_EQ(ranges[0].range, (Range{0, 3072}));
  EXPECT_EQ(ranges[1].range, (Range{3072, 8192}));
  EXPECT_EQ(ranges[1].group, 1);
  EXPECT_EQ(ranges[2].range, (Range{8192, 10240}));
}

}  // namespace
}  // namespace orlop::zero3
