#include "zero3/planner/schedule.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace orlop::zero3 {
namespace {

using testing::DoubleEq;
using testing::ElementsAre;
using testing::IsEmpty;

// Three units of 10 elements, each used once a step with `compute_seconds` after it, in a memory for `room`.
struct Case {
  std::vector<UnitSize> units = std::vector<UnitSize>(3, {10, 20});
  UseTrace trace = trace_of(1);
  PlanLimits limits;
  DriveRates rates{10, 5};
  ResidentUnits start{std::vector<bool>(3), std::vector<bool>(3), 20};

  static UseTrace trace_of(double compute_seconds) {
    return {{{0, UseKind::forward, compute_seconds},
             {1, UseKind::forward, compute_seconds},
             {2, UseKind::forward, compute_seconds}},
            3};
  }
  [[nodiscard]] PlanInput input() const { return {trace, units, limits, rates}; }
  [[nodiscard]] Retention retention() const {
    return retain(input(), start, EvictionOrder::furthest_next_use);
  }
  [[nodiscard]] std::vector<Action> fetches() const { return schedule_fetches(input(), start, retention()); }
  [[nodiscard]] std::vector<double> slack() const { return slack_seconds(input(), retention()); }
  [[nodiscard]] std::vector<Action> updates() const {
    return schedule_updates(input(), start, fetches(), slack());
  }
};

Action fetch(UnitIndex unit, std::size_t issue, std::size_t deadline) {
  return {ActionKind::fetch, unit, issue, deadline};
}
Action update(UnitIndex unit, std::size_t issue, std::size_t deadline) {
  return {ActionKind::update, unit, issue, deadline};
}

TEST(Schedule, FetchesAsSoonAsThereIsRoom) {
  Case c;
  c.start.room_elements = 30;
  EXPECT_THAT(c.fetches(), ElementsAre(fetch(0, 0, 0), fetch(1, 0, 1), fetch(2, 0, 2)));
  c.start.room_elements = 20;  // 0 stays for the next step, or else 2 could be fetched during use 1
  EXPECT_THAT(c.fetches(), ElementsAre(fetch(0, 0, 0), fetch(1, 0, 1), fetch(2, 2, 2)));
}

TEST(Schedule, WithoutRoomForTwoNothingIsFetchedAhead) {
  Case c;
  c.start.room_elements = 10;
  EXPECT_THAT(c.fetches(), ElementsAre(fetch(0, 0, 0), fetch(1, 1, 1), fetch(2, 2, 2)));
}

TEST(Schedule, LooksNoFurtherAheadThanItMay) {
  Case c;
  c.start.room_elements = 30;
  c.limits.prefetch_elements = 19;
  EXPECT_THAT(c.fetches(), ElementsAre(fetch(0, 0, 0), fetch(1, 0, 1), fetch(2, 1, 2)));
  c.limits.prefetch_elements = 1;  // less than a unit: one at a time
  EXPECT_THAT(c.fetches(), ElementsAre(fetch(0, 0, 0), fetch(1, 0, 1), fetch(2, 1, 2)));
  c.limits.prefetch_elements = 0;
  EXPECT_THAT(c.fetches(), ElementsAre(fetch(0, 0, 0), fetch(1, 1, 1), fetch(2, 2, 2)));
}

TEST(Schedule, FetchesForTheNextStepUnlessTheUnitIsUpdatedBetween) {
  Case c;
  c.start.room_elements = 20;
  c.limits.max_reuse_distance_elements = 1;  // keep nothing
  EXPECT_THAT(c.fetches(), ElementsAre(fetch(0, 0, 0), fetch(1, 0, 1), fetch(2, 1, 2), fetch(0, 2, 3)));
  c.units[0].update_write_bytes = 1;
  EXPECT_THAT(c.fetches(), ElementsAre(fetch(0, 0, 0), fetch(1, 0, 1), fetch(2, 1, 2)));
}

TEST(Schedule, WhatIsInMemoryIsNotFetched) {
  Case c;
  c.start.room_elements = 30;
  c.start.is_resident = {true, true, true};
  EXPECT_THAT(c.fetches(), IsEmpty());
}

TEST(Schedule, SlackIsTheComputeLeftBesideTheReadsThatAreDue) {
  Case c;  // a fetch takes 2 s
  c.limits.max_reuse_distance_elements = 1;
  c.trace = Case::trace_of(5);
  EXPECT_THAT(c.slack(), ElementsAre(DoubleEq(3), DoubleEq(3), DoubleEq(3)));
  c.trace = {{{0, UseKind::forward, 5}, {1, UseKind::forward, 1}, {2, UseKind::forward, 1}}, 3};
  EXPECT_THAT(c.slack(), ElementsAre(DoubleEq(1), DoubleEq(-2), DoubleEq(-1)));
}

TEST(Schedule, UpdatesAreSpreadOverTheSlack) {
  Case c;
  c.start.room_elements = 30;
  c.start.is_resident = {true, false, false};
  c.limits.prefetch_elements = 1;
  for (UnitSize& unit : c.units) unit.update_write_bytes = 10;  // 2 s
  c.trace = Case::trace_of(100);
  EXPECT_THAT(c.updates(), ElementsAre(update(0, 0, 0), update(1, 0, 1), update(2, 0, 2)));  // hidden at once
  c.trace = Case::trace_of(0.5);
  EXPECT_THAT(c.updates(),
              ElementsAre(update(0, 0, 0), update(1, 0, 1), update(2, 1, 2)));  // with their fetches
}

TEST(Schedule, ReadsComeFirstWhileSlackIsShort) {
  Case c;
  c.units.assign(4, {10, 20, 0, 10});  // a fetch and an update take 2 s each
  c.trace = {{{0, UseKind::forward, 2},
              {1, UseKind::forward, 20},
              {2, UseKind::forward, 9},
              {3, UseKind::forward, 9}},
             4};
  c.start = {std::vector<bool>(4), std::vector<bool>(4), 100};
  c.limits.prefetch_elements = 1;
  // Use 0 hides the fetch of 1 and nothing else: the only updates are those that fetches wait for. Use 1
  // hides all.
  EXPECT_THAT(c.updates(), ElementsAre(update(0, 0, 0), update(1, 0, 1), update(2, 1, 2), update(3, 1, 3)));
}

TEST(Schedule, AFrozenUnitIsNotUpdated) {
  Case c;
  EXPECT_THAT(c.updates(), IsEmpty());
}

}  // namespace
}  // namespace orlop::zero3
