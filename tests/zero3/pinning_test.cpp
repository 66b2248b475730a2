#include "zero3/planner/pinning.hpp"

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace orlop::zero3 {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::uint64_t saved_by(const std::vector<PinCandidate>& candidates, const std::vector<UnitIndex>& units) {
  std::uint64_t saved = 0;
  for (const UnitIndex unit : units) saved += candidates[unit].saved_bytes;
  return saved;
}

std::uint64_t most_saved(const std::vector<PinCandidate>& candidates, std::uint64_t budget) {
  std::uint64_t most = 0;
  for (unsigned set = 0; set < 1u << candidates.size(); ++set) {
    std::uint64_t bytes = 0;
    std::uint64_t saved = 0;
    for (const PinCandidate& c : candidates) {
      if ((set >> c.unit & 1) == 0) continue;
      bytes += c.bytes;
      saved += c.saved_bytes;
    }
    if (bytes <= budget) most = std::max(most, saved);
  }
  return most;
}

std::vector<PinCandidate> random_candidates(std::mt19937& random, std::uint64_t largest) {
  std::vector<PinCandidate> candidates;
  const auto count = static_cast<UnitIndex>(1 + random() % 10);
  for (UnitIndex unit = 0; unit < count; ++unit) {
    const std::uint64_t bytes = 1 + random() % largest;
    candidates.push_back({unit, bytes, bytes * (random() % 4)});
  }
  return candidates;
}

TEST(Pinning, SavesTheMostThereIsForUnitsOfOneSize) {
  for (unsigned seed = 1; seed <= 500; ++seed) {
    std::mt19937 random(seed);
    const auto candidates = random_candidates(random, 1);
    const std::uint64_t budget = random() % 12;
    ASSERT_EQ(saved_by(candidates, pin(candidates, budget)), most_saved(candidates, budget))
        << "seed " << seed;
  }
}

TEST(Pinning, SavesAtLeastHalfOfTheMostForUnitsOfManySizesWithinTheBudget) {
  double sum = 0;
  int cases = 0;
  for (unsigned seed = 1; seed <= 500; ++seed) {
    std::mt19937 random(seed);
    const auto candidates = random_candidates(random, 9);
    const std::uint64_t budget = random() % 60;
    const auto pinned = pin(candidates, budget);
    std::uint64_t bytes = 0;
    for (const UnitIndex unit : pinned) bytes += candidates[unit].bytes;
    ASSERT_LE(bytes, budget) << "seed " << seed;
    const std::uint64_t most = most_saved(candidates, budget);
    if (most == 0) continue;
    const double ratio = static_cast<double>(saved_by(candidates, pinned)) / static_cast<double>(most);
    ASSERT_GE(ratio, 0.5) << "seed " << seed;
    sum += ratio;
    ++cases;
  }
  EXPECT_GT(sum / cases, 0.97);
}

TEST(Pinning, TakesTheDensestFirst) {
  const std::vector<PinCandidate> candidates = {{0, 10, 10}, {1, 10, 30}, {2, 10, 20}};
  EXPECT_THAT(pin(candidates, 20), ElementsAre(1, 2));
}

TEST(Pinning, OneLargeUnitWinsOverADenserSmallOne) {
  EXPECT_THAT(pin(std::vector<PinCandidate>{{0, 1, 2}, {1, 10, 10}}, 10), ElementsAre(1));
}

TEST(Pinning, SpreadsEqualsEvenly) {
  std::vector<PinCandidate> candidates;
  for (UnitIndex unit = 0; unit < 12; ++unit) candidates.push_back({unit, 5, 10});
  EXPECT_THAT(pin(candidates, 20), ElementsAre(2, 5, 8, 11));
}

TEST(Pinning, WhatSavesNothingIsNotPinned) {
  EXPECT_THAT(pin(std::vector<PinCandidate>{{0, 5, 0}, {1, 0, 0}}, 100), IsEmpty());
  EXPECT_THAT(pin(std::vector<PinCandidate>{{0, 5, 10}}, 4), IsEmpty());
}

TEST(Pinning, TheSmallestUnitsPersistAsFarAsTheyFitBesideTheLargest) {
  const UseTrace trace = UseTrace::predicted(4);
  const std::vector<UnitSize> units = {{5, 10}, {2, 4}, {50, 100}, {3, 6}};
  PlanLimits limits{.max_live_elements = 100, .persistence_elements = 5};
  EXPECT_THAT(persistent_units({trace, units, limits, {}}), ElementsAre(1, 3, 0));
  limits.max_live_elements = 56;  // beside the 50
  EXPECT_THAT(persistent_units({trace, units, limits, {}}), ElementsAre(1, 3));
}

}  // namespace
}  // namespace orlop::zero3
