#include "numa/topology.hpp"

#include <algorithm>
#include <sched.h>
#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace orlop::numa {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Topology make(const char* description, std::initializer_list<int> processors = {}) {
  return Topology::synthetic(description, std::vector<int>(processors)).value();
}

TEST(Topology, OfTwoNodesListsTheProcessorsOfEach) {
  const Topology topology = make("numa:2 core:4 pu:1");
  ASSERT_EQ(topology.nodes().size(), 2u);
  EXPECT_THAT(topology.nodes()[0].processors, ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(topology.nodes()[1].processors, ElementsAre(4, 5, 6, 7));
  EXPECT_GT(topology.nodes()[1].memory_bytes, 0u);
  EXPECT_EQ(topology.processor_count(), 8);
  EXPECT_FALSE(topology.is_this_machine());
}

TEST(Topology, CountsOnlyProcessorsThatTheProcessMayUse) {
  const Topology topology = make("numa:4 core:2 pu:2", {0, 4, 5, 6, 12});
  ASSERT_EQ(topology.nodes().size(), 4u);
  EXPECT_THAT(topology.nodes()[0].processors, ElementsAre(0));
  EXPECT_THAT(topology.nodes()[1].processors, ElementsAre(4, 5, 6));
  EXPECT_THAT(topology.nodes()[2].processors, IsEmpty());
  EXPECT_THAT(topology.nodes()[3].processors, ElementsAre(12));
  EXPECT_EQ(topology.processor_count(), 5);
}

TEST(Topology, AProcessorWithTwoLocalNodesBelongsToOne) {
  const Topology topology = make("pack:2 [numa] [numa] core:2 pu:1");
  ASSERT_EQ(topology.nodes().size(), 4u);
  EXPECT_EQ(topology.processor_count(), 4);
  std::set<int> seen;
  for (const Node& node : topology.nodes()) {
    for (const int processor : node.processors) EXPECT_TRUE(seen.insert(processor).second) << processor;
  }
}

TEST(Topology, OfNonsenseIsRefusedWithTheText) {
  const auto topology = Topology::synthetic("three turtles");
  ASSERT_FALSE(topology);
  EXPECT_EQ(topology.error().status, ORLOP_INVALID_ARGUMENT);
  EXPECT_THAT(topology.error().message, HasSubstr("three turtles"));
}

TEST(Topology, MovesItsHandle) {
  Topology first = make("numa:2 core:1 pu:1");
  Topology second(std::move(first));
  EXPECT_EQ(second.nodes().size(), 2u);
  Topology third = make("numa:1 core:1 pu:1");
  third = std::move(second);
  EXPECT_EQ(third.nodes().size(), 2u);
  EXPECT_NE(third.handle(), nullptr);
}

TEST(Topology, OfThisMachineHasTheProcessorsOfTheAffinityMask) {
  cpu_set_t mask;
  ASSERT_EQ(::sched_getaffinity(0, sizeof mask, &mask), 0);
  const Topology topology = Topology::detect().value();
  EXPECT_TRUE(topology.is_this_machine());
  std::size_t count = 0;
  for (const Node& node : topology.nodes()) {
    count += node.processors.size();
    for (const int processor : node.processors) EXPECT_TRUE(CPU_ISSET(processor, &mask)) << processor;
  }
  EXPECT_EQ(count, static_cast<std::size_t>(CPU_COUNT(&mask)));
  EXPECT_GE(topology.processor_count(), 1);
  EXPECT_LE(topology.processor_count(), CPU_COUNT(&mask));
}

TEST(Topology, HonoursAnAffinityMaskSetFromOutside) {
  cpu_set_t before;
  ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
  int last = -1;
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &before)) last = i;
  }
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(last, &one);
  ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
  const auto topology = Topology::detect();
  ASSERT_EQ(::sched_setaffinity(0, sizeof before, &before), 0);
  ASSERT_TRUE(topology);
  EXPECT_EQ(topology->processor_count(), 1);
}

TEST(Topology, UnknownDevicesAreOnNodeZero) {
  const Topology machine = Topology::detect().value();
  EXPECT_EQ(machine.node_of_block_device("no-such-drive"), 0);
  EXPECT_EQ(machine.node_of_pci("ffff:ff:1f.7"), 0);
  EXPECT_EQ(make("numa:2 core:1 pu:1").node_of_block_device("nvme0n1"), 0);
}

TEST(SplitOverNodes, FollowsTheProcessors) {
  EXPECT_THAT(split_over_nodes(make("numa:2 core:4 pu:1"), 1000, 10),
              ElementsAre(NodeRange{0, 0, 500}, NodeRange{1, 500, 1000}));
  EXPECT_THAT(split_over_nodes(make("numa:4 core:2 pu:2", {0, 4, 5, 6, 12}), 1000, 1),
              ElementsAre(NodeRange{0, 0, 200}, NodeRange{1, 200, 800}, NodeRange{3, 800, 1000}));
}

TEST(SplitOverNodes, LeavesNodesWithoutAGrainOut) {
  EXPECT_THAT(split_over_nodes(make("numa:2 core:4 pu:1"), 5, 8), ElementsAre(NodeRange{1, 0, 5}));
  EXPECT_THAT(split_over_nodes(make("numa:2 core:4 pu:1"), 0, 8), IsEmpty());
}

TEST(SplitOverNodes, CoversEverythingOnceAtMultiplesOfTheGrain) {
  for (const char* description :
       {"numa:1 core:3 pu:1", "numa:2 core:3 pu:2", "numa:4 core:1 pu:1", "numa:8 core:7 pu:2"}) {
    const Topology topology = make(description);
    for (const std::uint64_t count : {std::uint64_t{1}, std::uint64_t{7}, std::uint64_t{1023},
                                      std::uint64_t{1'000'003}, UINT64_MAX - 5000}) {
      for (const std::uint64_t grain : {1, 64, 1000, 4096}) {
        std::uint64_t next = 0;
        for (const NodeRange& range : split_over_nodes(topology, count, grain)) {
          EXPECT_EQ(range.begin, next);
          EXPECT_EQ(range.begin % grain, 0u);
          EXPECT_GT(range.end, range.begin);
          next = range.end;
        }
        EXPECT_EQ(next, count) << description << " " << count << " " << grain;
      }
    }
  }
}

TEST(BindCurrentThread, KeepsTheThreadOnTheNode) {
  const Topology topology = Topology::detect().value();
  std::thread([&] {
    ASSERT_TRUE(bind_current_thread(topology, 0));
    cpu_set_t mask;
    ASSERT_EQ(::sched_getaffinity(0, sizeof mask, &mask), 0);
    EXPECT_EQ(static_cast<std::size_t>(CPU_COUNT(&mask)), topology.nodes()[0].processors.size());
  }).join();
}

TEST(BindCurrentThread, RefusesNodesThatAreNotThereOrHaveNoProcessors) {
  const Topology topology = make("numa:2 core:2 pu:1", {0});
  EXPECT_TRUE(bind_current_thread(topology, 0));
  EXPECT_EQ(bind_current_thread(topology, 1).error().status, ORLOP_UNSUPPORTED);
  EXPECT_EQ(bind_current_thread(topology, 2).error().status, ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(bind_current_thread(topology, -1).error().status, ORLOP_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace orlop::numa
