#include "zero3/planner/use_trace.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace orlop::zero3 {
namespace {

using testing::ElementsAre;

UseTrace trace_of(const std::vector<UnitIndex>& units, std::size_t unit_count) {
  std::vector<UnitUse> uses;
  for (const UnitIndex unit : units) uses.push_back({unit, UseKind::forward});
  return {std::move(uses), unit_count};
}

TEST(UseTrace, FindsTheNextUseRoundTheEndOfTheStep) {
  const UseTrace trace = trace_of({0, 1, 2, 1}, 4);
  EXPECT_EQ(trace.next_use(1, 0), 1u);
  EXPECT_EQ(trace.next_use(1, 1), 2u);
  EXPECT_EQ(trace.next_use(1, 3), 2u);
  EXPECT_EQ(trace.next_use(0, 0), 4u);
  EXPECT_EQ(trace.next_use(3, 0), UseTrace::kNever);
}

TEST(UseTrace, FindsTheLastUseRoundTheBeginOfTheStep) {
  const UseTrace trace = trace_of({0, 1, 2, 1}, 4);
  EXPECT_EQ(trace.last_use(1, 3), 2u);
  EXPECT_EQ(trace.last_use(1, 1), 2u);
  EXPECT_EQ(trace.last_use(0, 0), 4u);
  EXPECT_EQ(trace.last_use(3, 0), UseTrace::kNever);
}

TEST(UseTrace, KnowsTheFirstUseOfAStep) {
  const UseTrace trace = trace_of({0, 1, 2, 1}, 3);
  EXPECT_TRUE(trace.is_first(1));
  EXPECT_FALSE(trace.is_first(3));
  EXPECT_THAT(trace.positions_of(1), ElementsAre(1, 3));
}

TEST(UseTrace, IsPredictedForwardInRegistrationOrderAndBackwardInReverse) {
  const UseTrace trace = UseTrace::predicted(3);
  std::vector<UnitIndex> units;
  for (const UnitUse& use : trace.uses()) units.push_back(use.unit);
  EXPECT_THAT(units, ElementsAre(0, 1, 2, 2, 1, 0));
  EXPECT_EQ(trace[2].kind, UseKind::forward);
  EXPECT_EQ(trace[3].kind, UseKind::backward);
}

}  // namespace
}  // namespace orlop::zero3
