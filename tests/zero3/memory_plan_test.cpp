#include "zero3/memory_plan.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.hpp"
#include "swap/nvme_states.hpp"
#include "zero3/blocks.hpp"

namespace orlop::zero3 {
namespace {

using testing::HasSubstr;

const std::vector<swap::BlockSpec> kBlocks(10, {kBlockElements, planes_of(Dtype::bf16, kernels::Optimizer::adam)});

MemoryDemand demand(StateTier tier, unsigned slabs = 0) {
  return {{100_MiB, 0}, 1_MiB, kBlocks, tier, slabs};
}

MemoryLimits limits(std::optional<std::uint64_t> host = {}) { return {host, {}, {}, 8_GiB, 0}; }

TEST(MemoryPlan, WithoutABudgetTakesTheDefaultRing) {
  EXPECT_EQ(plan_memory(demand(StateTier::nvme), limits())->slab_count, swap::kDefaultSlabs);
}

TEST(MemoryPlan, ATightBudgetShrinksTheRingButNotBelowThree) {
  const auto smallest = plan_memory(demand(StateTier::nvme, swap::kMinimumSlabs), limits())->host_bytes;
  const auto plan = plan_memory(demand(StateTier::nvme), limits(smallest));
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->slab_count, swap::kMinimumSlabs);
  EXPECT_EQ(plan->host_bytes, smallest);
}

TEST(MemoryPlan, OneByteLessIsRefusedWithTheExactShortfall) {
  const auto smallest = plan_memory(demand(StateTier::nvme, swap::kMinimumSlabs), limits())->host_bytes;
  const auto plan = plan_memory(demand(StateTier::nvme), limits(smallest - 1));
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().status, ORLOP_NO_MEMORY);
  EXPECT_THAT(plan.error().message, HasSubstr(" 1 bytes too many"));
}

TEST(MemoryPlan, AFixedRingIsNotShrunk) {
  const auto smallest = plan_memory(demand(StateTier::nvme, swap::kMinimumSlabs), limits())->host_bytes;
  EXPECT_FALSE(plan_memory(demand(StateTier::nvme, 6), limits(smallest)));
}

TEST(MemoryPlan, StatesInMemoryCountAgainstTheBudget) {
  const auto plan = plan_memory(demand(StateTier::host), limits());
  ASSERT_TRUE(plan);
  EXPECT_GE(plan->host_bytes, 100_MiB + 10 * 20_MiB);
  EXPECT_EQ(plan->states.nvme_bytes, 0u);
  const auto refused = plan_memory(demand(StateTier::host), limits(200_MiB));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("nvme"));
}

TEST(MemoryPlan, WithoutABudgetTheMachineIsTheLimit) {
  auto small = limits();
  small.host_available = 50_MiB;
  const auto plan = plan_memory(demand(StateTier::nvme), small);
  ASSERT_FALSE(plan);
  EXPECT_THAT(plan.error().message, HasSubstr("this machine"));
}

TEST(MemoryPlan, TheStoreCountsAgainstTheNvmeBudget) {
  auto tight = limits();
  tight.nvme_budget = 10_MiB;
  const auto plan = plan_memory(demand(StateTier::nvme), tight);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().status, ORLOP_NO_SPACE);
}

TEST(MemoryPlan, ParametersCountAgainstTheDevice) {
  auto with_device = demand(StateTier::host);
  with_device.flat.device = 2_GiB;
  auto free = limits();
  free.device_available = 1_GiB;
  EXPECT_EQ(plan_memory(with_device, free).error().status, ORLOP_NO_MEMORY);
  free.device_available = 2_GiB;
  EXPECT_TRUE(plan_memory(with_device, free));
}

}  // namespace
}  // namespace orlop::zero3
