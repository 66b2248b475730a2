#include "zero3/memory_plan.hpp"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.hpp"
#include "swap/nvme_states.hpp"
#include "zero3/blocks.hpp"

namespace orlop::zero3 {
namespace {

using testing::HasSubstr;

const swap::PlaneSet kStates = planes_of(Dtype::bf16, kernels::Optimizer::adam);
const std::vector<BlockUse> kInMemory(10, {{kBlockElements, kStates}, {}, {}, true});
const std::vector<BlockUse> kOnNvme(10, {{kBlockElements, kStates}, kStates, {}, true});
const swap::PlaneSet kParam = {swap::Plane::param};
const std::vector<BlockUse> kAllOnNvme(10, {{kBlockElements, kStates | kParam}, kStates | kParam, kParam, true});

MemoryDemand demand(const std::vector<BlockUse>& blocks, unsigned slabs = 0) {
  return {{100_MiB, 0}, 1_MiB, blocks, slabs, {}, {}, 1, {}};
}

MemoryLimits limits(std::optional<std::uint64_t> host = {}) { return {host, {}, {}, 8_GiB, 0}; }

TEST(MemoryPlan, WithoutABudgetTakesTheDefaultRing) {
  EXPECT_EQ(plan_memory(demand(kOnNvme), limits())->slab_count, swap::kDefaultSlabs);
}

TEST(MemoryPlan, ATightBudgetShrinksTheRingButNotBelowThree) {
  const auto smallest = plan_memory(demand(kOnNvme, swap::kMinimumSlabs), limits())->host_bytes;
  const auto plan = plan_memory(demand(kOnNvme), limits(smallest));
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->slab_count, swap::kMinimumSlabs);
  EXPECT_EQ(plan->host_bytes, smallest);
}

TEST(MemoryPlan, OneByteLessIsRefusedWithTheExactShortfall) {
  const auto smallest = plan_memory(demand(kOnNvme, swap::kMinimumSlabs), limits())->host_bytes;
  const auto plan = plan_memory(demand(kOnNvme), limits(smallest - 1));
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().status, ORLOP_NO_MEMORY);
  EXPECT_THAT(plan.error().message, HasSubstr(" 1 bytes too many"));
}

TEST(MemoryPlan, AFixedRingIsNotShrunk) {
  const auto smallest = plan_memory(demand(kOnNvme, swap::kMinimumSlabs), limits())->host_bytes;
  EXPECT_FALSE(plan_memory(demand(kOnNvme, 6), limits(smallest)));
}

TEST(MemoryPlan, StatesInMemoryCountAgainstTheBudget) {
  const auto plan = plan_memory(demand(kInMemory), limits());
  ASSERT_TRUE(plan);
  EXPECT_GE(plan->host_bytes, 100_MiB + 10 * 20_MiB);
  EXPECT_EQ(plan->states.nvme_bytes, 0u);
  const auto refused = plan_memory(demand(kInMemory), limits(200_MiB));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("nvme"));
}

TEST(MemoryPlan, WhatIsSetAsideForActivationsCountsAndIsLeftFree) {
  MemoryDemand with = demand(kOnNvme);
  with.activation_bytes = 50_MiB;
  const auto without = plan_memory(demand(kOnNvme), limits(2_GiB));
  const auto plan = plan_memory(with, limits(2_GiB));
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->activation_bytes, 50_MiB);
  EXPECT_LE(plan->host_bytes, 2_GiB);
  EXPECT_LE(plan->pinned_fraction, without->pinned_fraction);
  EXPECT_EQ(plan_memory(with, limits())->host_bytes, plan_memory(demand(kOnNvme), limits())->host_bytes + 50_MiB);
  with.activation_bytes = 2_GiB;
  EXPECT_THAT(plan_memory(with, limits(2_GiB)).error().message, HasSubstr("orlop.memory.activations 2147483648"));
}

TEST(MemoryPlan, WithoutABudgetTheMachineIsTheLimit) {
  auto small = limits();
  small.host_available = 50_MiB;
  const auto plan = plan_memory(demand(kOnNvme), small);
  ASSERT_FALSE(plan);
  EXPECT_THAT(plan.error().message, HasSubstr("this machine"));
}

TEST(MemoryPlan, TheStoreCountsAgainstTheNvmeBudget) {
  auto tight = limits();
  tight.nvme_budget = 10_MiB;
  const auto plan = plan_memory(demand(kOnNvme), tight);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().status, ORLOP_NO_SPACE);
}

TEST(MemoryPlan, ParametersCountAgainstTheDevice) {
  auto with_device = demand(kInMemory);
  with_device.flat.device = 2_GiB;
  auto free = limits();
  free.device_available = 1_GiB;
  EXPECT_EQ(plan_memory(with_device, free).error().status, ORLOP_NO_MEMORY);
  free.device_available = 2_GiB;
  EXPECT_TRUE(plan_memory(with_device, free));
}

std::uint64_t least_bytes(const std::vector<BlockUse>& blocks) {
  MemoryDemand nothing_pinned = demand(blocks);
  nothing_pinned.pinned = 0;
  nothing_pinned.plane_slabs = {2, 2};
  return plan_memory(nothing_pinned, limits())->host_bytes;
}

TEST(MemoryPlan, WithoutABudgetNothingIsPinned) {
  const auto plan = plan_memory(demand(kOnNvme), limits());
  EXPECT_EQ(plan->pinned_fraction, 0);
  EXPECT_EQ(plan->residence, Residence(10));
}

TEST(MemoryPlan, WhatIsLeftOfABudgetHoldsBlocksForGood) {
  const std::uint64_t budget = least_bytes(kOnNvme) + 65_MiB;
  const auto plan = plan_memory(demand(kOnNvme), limits(budget));
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_DOUBLE_EQ(plan->pinned_fraction, 0.3);
  EXPECT_EQ(std::ranges::count(plan->residence, kStates), 3);
  EXPECT_LE(plan->host_bytes, budget);
  EXPECT_GT(plan->host_bytes, budget - 20_MiB);
  EXPECT_LT(plan->states.nvme_bytes, plan_memory(demand(kOnNvme), limits())->states.nvme_bytes);
}

TEST(MemoryPlan, ABudgetForEverythingNeedsNeitherStoreNorRing) {
  const std::uint64_t budget = plan_memory(demand(kInMemory), limits())->host_bytes;
  const auto plan = plan_memory(demand(kOnNvme), limits(budget));
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->pinned_fraction, 1);
  EXPECT_EQ(plan->host_bytes, budget);
  EXPECT_EQ(plan->states.nvme_bytes, 0u);
  EXPECT_EQ(plan->slab_count, 0u);
}

TEST(MemoryPlan, ParametersArePinnedFirstForTheyAreMovedTwiceAsOften) {
  auto all = demand(kAllOnNvme);
  all.plane_slabs = {2, 2};
  const auto plan = plan_memory(all, limits(least_bytes(kAllOnNvme) + 21_MiB));
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(std::ranges::count(plan->residence, kParam), 5);
  EXPECT_NEAR(plan->pinned_fraction, 5 * 8 / 280.0, 1e-12);
  const auto more = plan_memory(all, limits(least_bytes(kAllOnNvme) + 43_MiB));
  for (const swap::PlaneSet planes : more->residence) EXPECT_EQ(planes & kParam, kParam);
  EXPECT_EQ(more->plane_slab_count, 0u) << "nothing is fetched any more";
  EXPECT_GT(more->pinned_fraction, 80 / 280.0) << "smaller slabs and those of parameters leave room for states";
}

TEST(MemoryPlan, AShareThatIsAskedForIsPinnedWholeAndSpreadOut) {
  auto half = demand(kAllOnNvme);
  half.plane_slabs = {2, 2};
  half.pinned = 0.5;
  const auto plan = plan_memory(half, limits());
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_DOUBLE_EQ(plan->pinned_fraction, 0.5);
  for (std::size_t i = 0; i < 10; i += 2) EXPECT_NE(plan->residence[i].empty(), plan->residence[i + 1].empty());
  const auto refused = plan_memory(half, limits(plan->host_bytes / 2));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("orlop.memory.pinned"));
}

TEST(MemoryPlan, AShareThatDoesNotFitIsRefusedWithTheOneThatDoes) {
  auto most = demand(kOnNvme);
  most.pinned = 0.9;
  auto half = most;
  half.pinned = 0.5;
  half.slab_count = most.slab_count = swap::kMinimumSlabs;
  const auto budget = plan_memory(half, limits())->host_bytes;
  const auto refused = plan_memory(most, limits(budget));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("raise the budget or lower orlop.memory.pinned (0.9) to 0.54"));
  half.pinned = 0.54;  // rounds to the same blocks
  EXPECT_TRUE(plan_memory(half, limits(budget)));
  half.pinned = 0.56;
  EXPECT_FALSE(plan_memory(half, limits(budget)));
}

TEST(MemoryPlan, SlabsThatDoNotFitAreRefusedWithTheNumberThatDoes) {
  const auto budget = plan_memory(demand(kOnNvme, 7), limits())->host_bytes;
  const auto of_blocks = plan_memory(demand(kOnNvme, 900), limits(budget));
  ASSERT_FALSE(of_blocks);
  EXPECT_THAT(of_blocks.error().message, HasSubstr("lower offload_optimizer.buffer_count (900) to 7"));
  auto demanded = demand(kAllOnNvme);
  demanded.pinned = 0;
  demanded.plane_slabs = {3, 3};
  const auto with_three = plan_memory(demanded, limits())->host_bytes;
  demanded.plane_slabs = {50, 50};
  const auto of_planes = plan_memory(demanded, limits(with_three));
  ASSERT_FALSE(of_planes);
  EXPECT_THAT(of_planes.error().message, HasSubstr("lower offload_param.buffer_count (50) to "));
}

// Nothing is pinned.
MemoryDemand with_live(std::uint64_t least, std::uint64_t most) {
  auto demanded = demand(kOnNvme);
  demanded.pinned = 0;
  demanded.live = {least, most, "head.weight", true};
  return demanded;
}

TEST(MemoryPlan, LiveUnitsGetWhatTheRestLeavesUpToTheirLimit) {
  const auto without = plan_memory(demand(kOnNvme), limits())->host_bytes;
  const auto plan = plan_memory(with_live(10_MiB, 50_MiB), limits(without + 30_MiB));
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->slab_count, swap::kDefaultSlabs);
  EXPECT_EQ(plan->live_bytes, 30_MiB);
  EXPECT_EQ(plan->host_bytes, without + 30_MiB);
  EXPECT_EQ(plan_memory(with_live(10_MiB, 50_MiB), limits(1_GiB))->live_bytes, 50_MiB);
}

TEST(MemoryPlan, TheLargestUnitComesBeforeMoreSlabs) {
  const auto smallest = plan_memory(demand(kOnNvme, swap::kMinimumSlabs), limits())->host_bytes;
  const auto plan = plan_memory(with_live(10_MiB, 50_MiB), limits(smallest + 10_MiB));
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->slab_count, swap::kMinimumSlabs);
  EXPECT_EQ(plan->live_bytes, 10_MiB);
  const auto refused = plan_memory(with_live(10_MiB, 50_MiB), limits(smallest + 10_MiB - 1));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("the largest unit of the store while in use (\"head.weight\") 10485760"));
  EXPECT_THAT(refused.error().message, HasSubstr(" 1 bytes too many"));
}

TEST(MemoryPlan, UnitsThatAModelOnADeviceUsesCountThere) {
  auto demanded = with_live(1_GiB, 3_GiB);
  demanded.live.is_on_host = false;
  auto free = limits();
  free.device_available = 2_GiB;
  const auto plan = plan_memory(demanded, free);
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->device_bytes, 2_GiB);
  EXPECT_EQ(plan->host_bytes, plan_memory(demand(kOnNvme), limits())->host_bytes);
  free.device_budget = 1_GiB - 1;
  EXPECT_THAT(plan_memory(demanded, free).error().message, HasSubstr("head.weight"));
}

}  // namespace
}  // namespace orlop::zero3
