#include "zero3/planner/retention.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "zero3/random_trace.hpp"

namespace orlop::zero3 {
namespace {

using testing::ElementsAre;

constexpr std::size_t kSteps = 4;

ResidentUnits empty_memory(std::size_t unit_count, std::uint64_t room) {
  return {std::vector<bool>(unit_count), std::vector<bool>(unit_count), room};
}

// What so many steps fetch, each with its own plan from what the one before left; fails if hits are not what
// they say.
std::uint64_t bytes_of_steps(const RandomTrace& t, EvictionOrder order) {
  const UseTrace trace = t.trace();
  const PlanInput input{trace, t.units, {.max_live_elements = t.room}, {}};
  ResidentUnits memory = empty_memory(t.units.size(), t.room);
  std::uint64_t bytes = 0;
  for (std::size_t step = 0; step < kSteps; ++step) {
    const Retention found = retain(input, memory, order);
    for (const UnitIndex unit : found.released) memory.is_resident[unit] = false;
    for (std::size_t use = 0; use < trace.size(); ++use) {
      const UnitIndex unit = trace[use].unit;
      EXPECT_EQ(found.is_hit[use], memory.is_resident[unit]) << "use " << use;
      if (!memory.is_resident[unit]) bytes += t.units[unit].fetch_bytes;
      memory.is_resident[unit] = found.is_kept[use];
    }
  }
  return bytes;
}

TEST(Retention, FetchesTheFewestBytesThatAreEnoughForUnitsOfOneSize) {
  for (unsigned seed = 1; seed <= 400; ++seed) {
    std::mt19937 random(seed);
    const RandomTrace t = random_trace(random, Sizes::equal);
    ASSERT_EQ(bytes_of_steps(t, EvictionOrder::furthest_next_use), fewest_bytes(t, kSteps))
        << "seed " << seed;
  }
}

// No bound is proven for this order; these are the figures that its comment and the design stand on.
TEST(Retention, IsNearTheFewestBytesForUnitsOfManySizes) {
  constexpr int kTraces = 400;
  double sum = 0;
  for (unsigned seed = 1; seed <= kTraces; ++seed) {
    std::mt19937 random(seed);
    const RandomTrace t = random_trace(random, Sizes::different);
    const UseTrace trace = t.trace();
    const PlanInput input{trace, t.units, {.max_live_elements = t.room}, {}};
    const auto order = choose_order(input, empty_memory(t.units.size(), t.room));
    const double ratio =
        static_cast<double>(bytes_of_steps(t, order)) / static_cast<double>(fewest_bytes(t, kSteps));
    ASSERT_GE(ratio, 1) << "seed " << seed;
    ASSERT_LE(ratio, 3) << "seed " << seed;
    sum += ratio;
  }
  EXPECT_LE(sum / kTraces, 1.04);
}

TEST(Retention, TheChosenOrderNeverFetchesMoreThanAnother) {
  const auto bytes_of = [](const PlanInput& input, const ResidentUnits& start, EvictionOrder order) {
    std::uint64_t bytes = 0;
    const auto fetches = count_fetches(input, start, order, 0);
    for (std::size_t unit = 0; unit < fetches.size(); ++unit)
      bytes += fetches[unit] * input.units[unit].fetch_bytes;
    return bytes;
  };
  bool is_ever_another = false;
  for (unsigned seed = 1; seed <= 400; ++seed) {
    std::mt19937 random(seed);
    const RandomTrace t = random_trace(random, Sizes::different);
    const UseTrace trace = t.trace();
    const PlanInput input{trace, t.units, {.max_live_elements = t.room}, {}};
    const ResidentUnits start = empty_memory(t.units.size(), t.room);
    const EvictionOrder chosen = choose_order(input, start);
    is_ever_another = is_ever_another || chosen != EvictionOrder::furthest_next_use;
    for (const EvictionOrder order :
         {EvictionOrder::furthest_next_use, EvictionOrder::least_recent_use, EvictionOrder::longest_reuse}) {
      ASSERT_LE(bytes_of(input, start, chosen), bytes_of(input, start, order)) << "seed " << seed;
    }
  }
  EXPECT_TRUE(is_ever_another);
}

TEST(Retention, WhatTheStepFindsAndHasNoRoomForIsReleased) {
  const UseTrace trace({{0, UseKind::forward}, {1, UseKind::forward}}, 3);
  const std::vector<UnitSize> units(3, {1, 2});
  ResidentUnits start = empty_memory(3, 2);
  start.is_resident = {true, true, true};
  const Retention found = retain({trace, units, {}, {}}, start, EvictionOrder::furthest_next_use);
  EXPECT_THAT(found.released, ElementsAre(2));  // not in the trace
  EXPECT_TRUE(found.is_hit[0] && found.is_hit[1]);
}

TEST(Retention, AUnitLargerThanTheRoomIsUsedAloneAndNotKept) {
  const UseTrace trace(
      {{0, UseKind::forward}, {1, UseKind::forward}, {1, UseKind::backward}, {0, UseKind::backward}}, 2);
  const std::vector<UnitSize> units = {{1, 2}, {9, 18}};
  const Retention found =
      retain({trace, units, {}, {}}, empty_memory(2, 5), EvictionOrder::furthest_next_use);
  EXPECT_FALSE(found.is_kept[0]);
  EXPECT_TRUE(found.is_kept[1]);  // its next use follows at once
  EXPECT_FALSE(found.is_kept[2]);
  EXPECT_TRUE(found.is_hit[2]);
}

TEST(Retention, SmallUnitsStayWhenALargeOneMakesTheirRoom) {
  // 0 is small and needed last, 1 is large: evicting 1 alone is enough for 2.
  const UseTrace trace({{0, UseKind::forward},
                        {1, UseKind::forward},
                        {2, UseKind::forward},
                        {1, UseKind::backward},
                        {0, UseKind::backward}},
                       3);
  const std::vector<UnitSize> units = {{1, 2}, {8, 16}, {8, 16}};
  const Retention found =
      retain({trace, units, {}, {}}, empty_memory(3, 10), EvictionOrder::furthest_next_use);
  EXPECT_TRUE(found.is_kept[0]);
  EXPECT_FALSE(found.is_kept[1]);
}

TEST(Retention, AHeldUnitIsFetchedOnceAndTakesNoRoom) {
  const UseTrace trace({{0, UseKind::forward}, {1, UseKind::forward}, {0, UseKind::backward}}, 2);
  const std::vector<UnitSize> units(2, {1, 2});
  ResidentUnits start = empty_memory(2, 1);
  start.is_held[0] = true;
  const Retention found = retain({trace, units, {}, {}}, start, EvictionOrder::furthest_next_use);
  EXPECT_THAT(found.is_hit, ElementsAre(false, false, true, true, true, true));
}

// A step's uses, twice, each with at most the evictions of one unit and those taken back.
TEST(Retention, CostsALinearNumberOfVisitsAt10000Units) {
  constexpr std::size_t kUnits = 10'000;
  std::vector<UnitSize> units;
  std::mt19937 random(1);
  std::uint64_t all = 0;
  for (std::size_t unit = 0; unit < kUnits; ++unit) {
    const std::uint64_t elements = unit % 3 == 0 ? 1000 : 1'000'000 + random() % 4'000'000;
    units.push_back({elements, 2 * elements});
    all += elements;
  }
  const UseTrace trace = UseTrace::predicted(kUnits);
  for (const std::uint64_t room : {all / 100, all / 10, all / 2, all}) {
    for (const EvictionOrder order :
         {EvictionOrder::furthest_next_use, EvictionOrder::least_recent_use, EvictionOrder::longest_reuse}) {
      const Retention found = retain({trace, units, {}, {}}, empty_memory(kUnits, room), order);
      EXPECT_LE(found.visits, 10 * 2 * trace.size()) << room;
    }
  }
}

}  // namespace
}  // namespace orlop::zero3
