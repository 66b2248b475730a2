#include "zero3/planner/trace_recorder.hpp"

#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace orlop::zero3 {
namespace {

using testing::Each;
using testing::ElementsAre;

// What a step of these units (all forward) is recorded as; the positions it came to.
std::vector<std::size_t> positions(TraceRecorder& recorder, const std::vector<UnitIndex>& units) {
  std::vector<std::size_t> positions;
  for (const UnitIndex unit : units) positions.push_back(recorder.use(unit, UseKind::forward, 1));
  return positions;
}

void step(TraceRecorder& recorder, const std::vector<UnitIndex>& units) {
  positions(recorder, units);
  recorder.end_step(1);
}

std::vector<UnitIndex> expected(const TraceRecorder& recorder) {
  std::vector<UnitIndex> units;
  for (const UnitUse& use : recorder.expected().uses()) units.push_back(use.unit);
  return units;
}

TEST(TraceRecorder, ExpectsRegistrationOrderAtFirst) {
  TraceRecorder recorder(3);
  EXPECT_FALSE(recorder.has_trace());
  EXPECT_THAT(positions(recorder, {0, 1, 2}), ElementsAre(0, 1, 2));
  EXPECT_EQ(recorder.use(2, UseKind::backward, 1), 3u);
}

TEST(TraceRecorder, ExpectsWhatTheStepBeforeDid) {
  TraceRecorder recorder(4);
  step(recorder, {2, 0, 3});
  EXPECT_TRUE(recorder.has_trace());
  EXPECT_THAT(expected(recorder), ElementsAre(2, 0, 3));
  EXPECT_THAT(positions(recorder, {2, 0, 3}), ElementsAre(0, 1, 2));
}

TEST(TraceRecorder, KeepsTheComputeTimeAfterEachUse) {
  TraceRecorder recorder(2);
  recorder.use(0, UseKind::forward, 9);  // before the first use: of no use
  recorder.use(1, UseKind::forward, 2);
  recorder.end_step(3);
  EXPECT_EQ(recorder.expected()[0].compute_seconds, 2);
  EXPECT_EQ(recorder.expected()[1].compute_seconds, 3);
}

TEST(TraceRecorder, CountsNothingWhenAStepRepeats) {
  TraceRecorder recorder(5);
  for (int i = 0; i < 3; ++i) step(recorder, {4, 1, 3, 1, 0});
  EXPECT_THAT(recorder.differing(), Each(0u));
}

TEST(TraceRecorder, CountsNothingInTheFirstStep) {
  TraceRecorder recorder(5);
  step(recorder, {4, 2, 0, 0, 1});
  EXPECT_THAT(recorder.differing(), Each(0u));
}

TEST(TraceRecorder, StaysWhereItWasWhenAUseIsInserted) {
  TraceRecorder recorder(5);
  step(recorder, {0, 1, 2, 3});
  EXPECT_THAT(positions(recorder, {0, 4, 1, 2}), ElementsAre(0, 0, 1, 2));
  EXPECT_THAT(recorder.differing(), ElementsAre(0, 0, 0, 0, 1));
}

TEST(TraceRecorder, GoesOnBehindUsesThatAreSkipped) {
  TraceRecorder recorder(5);
  step(recorder, {0, 1, 2, 3, 4});
  EXPECT_THAT(positions(recorder, {0, 3, 4}), ElementsAre(0, 3, 4));
  EXPECT_THAT(recorder.differing(), ElementsAre(0, 1, 1, 0, 0));
}

TEST(TraceRecorder, FollowsAnotherExpertInEveryLayer) {
  TraceRecorder recorder(9);  // three layers: dense, two experts
  step(recorder, {0, 1, 3, 4, 6, 7});
  EXPECT_THAT(positions(recorder, {0, 2, 3, 5, 6, 8}), ElementsAre(0, 0, 2, 2, 4, 4));
  recorder.end_step(1);
  EXPECT_THAT(recorder.differing(), ElementsAre(0, 1, 1, 0, 1, 1, 0, 0, 1));
  EXPECT_THAT(expected(recorder), ElementsAre(0, 2, 3, 5, 6, 8));  // folded in
}

TEST(TraceRecorder, BelievesAFarJumpOnceTheNextUseAgrees) {
  const std::size_t n = 5 * TraceRecorder::kSkip;
  std::vector<UnitIndex> units(n);
  std::iota(units.begin(), units.end(), 0);
  TraceRecorder recorder(n);
  step(recorder, units);
  EXPECT_THAT(positions(recorder, {0, 1, 70, 71, 72}), ElementsAre(0, 1, 1, 71, 72));
  EXPECT_THAT(positions(recorder, {0, 1}), ElementsAre(72, 1));  // begins again
}

TEST(TraceRecorder, ModulesRegisteredInAnotherOrderAreNoSkipInTheFirstStep) {
  TraceRecorder recorder(6);  // 2 is used before 0 and 1
  EXPECT_THAT(positions(recorder, {2, 0, 1, 3, 4}), ElementsAre(11, 0, 1, 1, 4));
}

TEST(TraceRecorder, SaysWhetherTheOrderIsNew) {
  TraceRecorder recorder(3);
  positions(recorder, {2, 0});
  EXPECT_TRUE(recorder.end_step(1));
  positions(recorder, {2, 0});
  EXPECT_FALSE(recorder.end_step(2));
  EXPECT_FALSE(recorder.end_step(2)) << "nothing was used";
}

TEST(TraceRecorder, DoesNotRememberAStepOfTooManyUses) {
  TraceRecorder recorder(2);
  positions(recorder, std::vector<UnitIndex>(TraceRecorder::most_uses(2) + 1, 1));
  EXPECT_FALSE(recorder.end_step(1));
  EXPECT_EQ(recorder.expected().size(), 4u) << "the guess";
  positions(recorder, std::vector<UnitIndex>(TraceRecorder::most_uses(2), 1));
  EXPECT_TRUE(recorder.end_step(1));
  EXPECT_EQ(recorder.expected().size(), TraceRecorder::most_uses(2));
}

TEST(TraceRecorder, ARecomputeIsNotTheForward) {
  TraceRecorder recorder(3);
  positions(recorder, {0, 1, 2});
  EXPECT_EQ(recorder.use(2, UseKind::backward, 1), 3u);
  EXPECT_EQ(recorder.use(0, UseKind::recompute, 1), 3u);
  EXPECT_EQ(recorder.use(1, UseKind::recompute, 1), 3u);
  EXPECT_EQ(recorder.use(1, UseKind::backward, 1), 4u);
}

TEST(TraceRecorder, SeveralMicroBatchesOfAFirstStepGoRoundThePrediction) {
  TraceRecorder recorder(2);
  for (int micro_batch = 0; micro_batch < 3; ++micro_batch) {
    EXPECT_THAT(positions(recorder, {0, 1}), ElementsAre(0, 1));
    EXPECT_EQ(recorder.use(1, UseKind::backward, 1), 2u);
    EXPECT_EQ(recorder.use(0, UseKind::backward, 1), 3u);
  }
  recorder.end_step(1);
  EXPECT_EQ(recorder.expected().size(), 12u);
}

TEST(TraceRecorder, ADiscardedStepLeavesTheTraceAsItIs) {
  TraceRecorder recorder(3);
  step(recorder, {0, 1, 2});
  positions(recorder, {2, 2});
  recorder.discard();
  EXPECT_THAT(positions(recorder, {0, 1, 2}), ElementsAre(0, 1, 2));
  recorder.end_step(1);
  EXPECT_THAT(expected(recorder), ElementsAre(0, 1, 2));
}

TEST(TraceRecorder, AStepWithoutUsesChangesNothing) {
  TraceRecorder recorder(2);
  step(recorder, {1, 0});
  recorder.end_step(1);
  EXPECT_THAT(expected(recorder), ElementsAre(1, 0));
}

}  // namespace
}  // namespace orlop::zero3
