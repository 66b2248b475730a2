#include "bench/trace_policies.hpp"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/trace_file.hpp"
#include "zero3/planner/planned_policy.hpp"
#include "zero3/random_trace.hpp"

namespace orlop::bench {
namespace {

using zero3::PlanLimits;
using zero3::StepOutcome;
using zero3::UnitSize;
using zero3::UnitUse;
using zero3::UseKind;

using Steps = std::vector<std::vector<UnitUse>>;

constexpr double kRate = 10;  // bytes a second

// Forward and backward through three units of 10 bytes, 2 s of compute each.
const std::vector<UnitSize> kUnits(3, {1, 10, 1, 1});
const std::vector<UnitUse> kStep = {{0, UseKind::forward, 2},  {1, UseKind::forward, 2},
                                    {2, UseKind::forward, 2},  {2, UseKind::backward, 2},
                                    {1, UseKind::backward, 2}, {0, UseKind::backward, 2}};

TEST(LruPolicy, EvictsWhatWasUsedTheLongestAgo) {
  LruPolicy policy(2);
  const auto outcomes = simulate(Steps{kStep, kStep}, kUnits, kRate, policy);
  EXPECT_EQ(outcomes[0].bytes_fetched, 40);  // 2 and 1 are there as backward begins
  EXPECT_EQ(outcomes[1].bytes_fetched, 20);  // and 0 and 1 as the step does
  EXPECT_EQ(outcomes[0].stall_seconds, 4);
  EXPECT_EQ(outcomes[0].peak_live_elements, 2u);
}

TEST(DeepSpeedPolicy, TheFirstStepIsOnDemand) {
  DeepSpeedPolicy policy(3, {});
  const auto outcome = simulate(Steps{kStep}, kUnits, kRate, policy)[0];
  EXPECT_EQ(outcome.bytes_fetched, 60);
  EXPECT_EQ(outcome.stall_seconds, 6);
}

TEST(DeepSpeedPolicy, FollowsTheTraceAndKeepsNothingBeyondTheStep) {
  DeepSpeedPolicy policy(3, {.prefetch_elements = 1});
  const auto outcome = simulate(Steps{kStep, kStep}, kUnits, kRate, policy)[1];
  EXPECT_EQ(outcome.bytes_fetched, 30);
  EXPECT_EQ(outcome.stall_seconds, 1);
}

TEST(DeepSpeedPolicy, ReleasesWhatIsUsedTooFarAway) {
  DeepSpeedPolicy policy(3, {.max_reuse_distance_elements = 1, .prefetch_elements = 0});
  EXPECT_EQ(simulate(Steps{kStep, kStep}, kUnits, kRate, policy)[1].bytes_fetched, 50);  // only 2 stays
}

TEST(DeepSpeedPolicy, ServesUsesAboveItsLimit) {
  DeepSpeedPolicy policy(3, {.max_live_elements = 1});
  EXPECT_EQ(simulate(Steps{kStep, kStep}, kUnits, kRate, policy)[1].peak_live_elements, 3u);
}

TEST(DeepSpeedPolicy, AUseThatDiffersEndsItsLookAhead) {
  std::vector<UnitUse> other = kStep;
  std::swap(other[0], other[1]);
  DeepSpeedPolicy policy(3, {});
  EXPECT_EQ(simulate(Steps{kStep, other}, kUnits, kRate, policy)[1].stall_seconds, 6);
}

struct Totals {
  double bytes = 0;
  std::uint64_t peak = 0;
};

// Of the steps after the first.
Totals steady(const zero3::RandomTrace& t, std::size_t steps, zero3::Policy& policy) {
  const auto outcomes = simulate(Steps(steps, t.uses), t.units, kRate, policy);
  Totals totals;
  for (const StepOutcome& step : std::span(outcomes).subspan(1)) {
    totals.bytes += step.bytes_fetched;
    totals.peak = std::max(totals.peak, step.peak_live_elements);
  }
  return totals;
}

// From the second step on. For units of one size that is proven but for what the first step, along a
// prediction that was wrong, has left in memory: at most its room. For several sizes it is a matter of
// figures.
TEST(PlannedPolicy, FetchesNoMoreThanLruOrDeepSpeedsRule) {
  int more_than_lru = 0;
  int more_than_deepspeed = 0;
  int comparable = 0;
  for (unsigned seed = 1; seed <= 1000; ++seed) {
    std::mt19937 random(seed);
    const bool is_proven = seed % 2 == 0;
    zero3::RandomTrace t = random_trace(random, is_proven ? zero3::Sizes::equal : zero3::Sizes::different);
    for (UnitSize& unit : t.units) unit.update_write_bytes = 1;
    zero3::PlannedPolicy planned(t.units, {.max_live_elements = t.room}, {kRate, kRate});
    LruPolicy lru(t.room);
    DeepSpeedPolicy deepspeed(t.units.size(),
                              {.max_live_elements = t.room, .max_reuse_distance_elements = random() % 40});
    const Totals ours = steady(t, 12, planned);
    ASSERT_LE(ours.peak, t.room) << "seed " << seed;
    const double by_lru = steady(t, 12, lru).bytes;
    const Totals theirs = steady(t, 12, deepspeed);
    const double by_deepspeed = theirs.peak <= t.room ? theirs.bytes : ours.bytes;  // above it: another task
    comparable += theirs.peak <= t.room ? 1 : 0;
    const double at_first = is_proven ? 2 * static_cast<double>(t.room) : INFINITY;
    ASSERT_LE(ours.bytes, std::min(by_lru, by_deepspeed) + at_first) << "seed " << seed;
    more_than_lru += ours.bytes > by_lru ? 1 : 0;
    more_than_deepspeed += ours.bytes > by_deepspeed ? 1 : 0;
  }
  EXPECT_LE(more_than_lru, 20);  // 13 as measured
  EXPECT_EQ(more_than_deepspeed, 0);
  EXPECT_GT(comparable, 100);
}

class RecordedTrace : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    auto trace = read_trace_file(fmt::format(ORLOP_TRACES "/{}.json", GetParam()));
    ASSERT_TRUE(trace) << trace.error().message;
    for (const std::uint64_t n : trace->elements) {
      units_.push_back({n, 2 * n, 10 * n, 10 * n});
      elements_ += n;
    }
    for (int round = 0; round < 3; ++round)
      steps_.insert(steps_.end(), trace->steps.begin(), trace->steps.end());
  }

  [[nodiscard]] StepOutcome last(zero3::Policy& policy) const {
    return simulate(steps_, units_, 5e9, policy).back();
  }

  std::vector<UnitSize> units_;
  std::uint64_t elements_ = 0;
  Steps steps_;
};

TEST_P(RecordedTrace, WaitsLessUnderThePlan) {
  for (const std::uint64_t parts : {8, 4, 2}) {  // every unit fits an eighth
    const PlanLimits limits{.max_live_elements = elements_ / parts};
    zero3::PlannedPolicy planned(units_, limits, {5e9, 5e9});
    LruPolicy lru(limits.max_live_elements);
    DeepSpeedPolicy deepspeed(units_.size(), {.max_live_elements = limits.max_live_elements,
                                              .max_reuse_distance_elements = limits.max_live_elements,
                                              .prefetch_elements = 50'000'000});
    const StepOutcome ours = last(planned);
    const StepOutcome theirs = last(deepspeed);
    EXPECT_LE(ours.peak_live_elements, limits.max_live_elements);
    EXPECT_LT(ours.bytes_fetched, theirs.bytes_fetched);
    // With T5's embedding in use, an eighth is full: their rule then takes twice the memory, and waits less
    // for it.
    const bool is_comparable = 2 * theirs.peak_live_elements <= 3 * limits.max_live_elements;
    if (is_comparable) {
      EXPECT_LT(ours.stall_seconds, theirs.stall_seconds);
    }
    // Experts change from step to step: a cache that only reads what is used may read less, in as much
    // waiting.
    const bool is_predictable = GetParam() != std::string("moe");
    if (is_predictable) {
      EXPECT_LE(ours.bytes_fetched, last(lru).bytes_fetched);
    }
    EXPECT_LT(ours.stall_seconds, 1.05 * last(lru).stall_seconds);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, RecordedTrace, testing::Values("gpt", "llama", "t5", "moe"),
                         [](const auto& model) { return std::string(model.param); });

}  // namespace
}  // namespace orlop::bench
