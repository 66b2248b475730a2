#include "swap/host_states.hpp"

#include <malloc.h>

#include "support.hpp"

namespace orlop::swap {
namespace {

using namespace testing;

TEST(HostStates, BeginsWithZerosAndKeepsWhatIsWritten) {
  std::mt19937_64 random(1);
  const auto blocks = random_blocks(random, 8);
  const auto states = make_host_states(topology(), blocks).value();
  Model model(blocks);
  EXPECT_EQ(model.difference(*states), "");
  const auto order = forward_order(blocks.size());
  ASSERT_TRUE(states->sweep(order, changing_visitor(blocks, 3), kNeverCancelled));
  model.sweep(order, 3);
  EXPECT_EQ(model.difference(*states), "");
}

TEST(HostStates, AsksNoSumsOfItsVisitors) {
  const auto blocks = equal_blocks(2, 2048);
  const auto states = make_host_states(topology(), blocks).value();
  ASSERT_TRUE(states->sweep(
      forward_order(2),
      [](const Visit& visit) -> Result<> {
        EXPECT_TRUE(visit.recorded.empty() && visit.read.empty() && visit.written.empty());
        return {};
      },
      kNeverCancelled));
}

TEST(HostStates, TakesWhatWasSaid) {
  std::mt19937_64 random(2);
  const auto blocks = random_blocks(random, 30);
  const auto states = make_host_states(topology(), blocks).value();
  EXPECT_EQ(states->use().host_bytes, host_states_bytes(blocks));
  EXPECT_EQ(states->use().nvme_bytes, 0u);
  EXPECT_LE(host_states_bytes(blocks), planes_bytes(blocks) + blocks.size() * (4 * 4096 + 64)) << "a page per plane, and tables";
}

TEST(HostStates, StopsBetweenBlocksWhenCancelled) {
  const auto blocks = equal_blocks(4, 2048);
  const auto states = make_host_states(topology(), blocks).value();
  std::atomic<bool> cancel{false};
  std::size_t visited = 0;
  const auto swept = states->sweep(
      forward_order(4),
      [&](const Visit&) -> Result<> {
        cancel = ++visited == 2;
        return {};
      },
      cancel);
  ASSERT_FALSE(swept);
  EXPECT_EQ(swept.error().status, ORLOP_CANCELLED);
  EXPECT_EQ(visited, 2u);
}

TEST(HostStates, RefusesBlocksThatAreNotThereOrComeTwice) {
  const auto states = make_host_states(topology(), equal_blocks(2, 2048)).value();
  const Visitor nothing = [](const Visit&) -> Result<> { return {}; };
  for (const std::vector<std::uint32_t>& order : {std::vector<std::uint32_t>{2}, {1, 1}}) {
    EXPECT_EQ(states->sweep(order, nothing, kNeverCancelled).error().status, ORLOP_INVALID_ARGUMENT);
  }
  EXPECT_FALSE(states->access(2, Change::none, [](const BlockMemory&) -> Result<> { return {}; }));
  EXPECT_FALSE(make_host_states(topology(), {{100, kSplit}}));
}

TEST(HostStates, MayHoldNothing) {
  const auto states = make_host_states(topology(), {});
  ASSERT_TRUE(states);
  EXPECT_TRUE((*states)->sweep({}, [](const Visit&) -> Result<> { return {}; }, kNeverCancelled));
}

}  // namespace
}  // namespace orlop::swap
