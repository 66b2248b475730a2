#include "zero3/planner/simulator.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "zero3/planner/planned_policy.hpp"
#include "zero3/random_trace.hpp"

namespace orlop::zero3 {
namespace {

using Steps = std::vector<std::vector<UnitUse>>;

const std::vector<UnitSize> kUnits = {{1, 10}, {2, 20}, {3, 30}};
constexpr double kRate = 10;  // bytes a second

// Fetches on demand, keeps nothing.
class OnDemand final : public Policy {
 public:
  void begin_use(const UnitUse& use, double, VirtualMemory& memory) override { memory.fetch(use.unit); }
  void read_ahead(VirtualMemory&) override {}
  void end_use(UnitIndex unit, VirtualMemory& memory) override { memory.evict(unit); }
  void end_step(double, VirtualMemory&) override {}
};

TEST(VirtualMemory, ReadsInOrderWhileTimeGoesBy) {
  VirtualMemory memory(kUnits, kRate);
  memory.fetch(0);
  memory.fetch(1);
  memory.advance(2);  // all of 0, half of 1
  EXPECT_EQ(memory.wait(0), 0);
  EXPECT_EQ(memory.bytes_read(), 20);
  EXPECT_EQ(memory.wait(1), 1);
  EXPECT_EQ(memory.bytes_read(), 30);
}

TEST(VirtualMemory, AUnitThatIsWaitedForIsReadFirst) {
  VirtualMemory memory(kUnits, kRate);
  memory.fetch(2);
  memory.fetch(0);
  EXPECT_EQ(memory.wait(0), 1);
  EXPECT_EQ(memory.wait(2), 3);
}

TEST(VirtualMemory, AnEvictedUnitIsReadNoFurther) {
  VirtualMemory memory(kUnits, kRate);
  memory.fetch(2);
  memory.advance(1);
  memory.evict(2);
  memory.advance(9);
  EXPECT_EQ(memory.bytes_read(), 10);
  EXPECT_EQ(memory.live_elements(), 0u);
  EXPECT_FALSE(memory.is_resident(2));
}

TEST(Simulator, OnDemandEveryByteIsWaitedFor) {
  const Steps steps = {{{0, UseKind::forward, 5}, {2, UseKind::forward, 7}}};
  OnDemand policy;
  const auto outcomes = simulate(steps, kUnits, kRate, policy);
  ASSERT_EQ(outcomes.size(), 1u);
  EXPECT_EQ(outcomes[0].bytes_fetched, 40);
  EXPECT_EQ(outcomes[0].stall_seconds, 4);
  EXPECT_EQ(outcomes[0].compute_seconds, 12);
  EXPECT_EQ(outcomes[0].peak_live_elements, 3u);
}

// Memory for 5 of 6 elements: 0 (1 s) is waited for; 1 (2 s) is read behind 5 s of compute; then, with 0
// evicted or not, 2 (3 s) has room once 0 is gone: read behind the 2 s of use 1, and waited for 1 s.
TEST(PlannedPolicy, HidesReadsBehindCompute) {
  const Steps steps = {{{0, UseKind::forward, 5}, {1, UseKind::forward, 2}, {2, UseKind::forward, 4}}};
  PlannedPolicy policy(kUnits, {.max_live_elements = 5}, {kRate, kRate});
  const auto outcomes = simulate(steps, kUnits, kRate, policy);
  EXPECT_EQ(outcomes[0].bytes_fetched, 60);
  EXPECT_EQ(outcomes[0].stall_seconds, 2);
  EXPECT_LE(outcomes[0].peak_live_elements, 5u);
}

TEST(PlannedPolicy, ReadsTheFirstStepAheadInRegistrationOrder) {
  const Steps steps = {{{0, UseKind::forward, 5}, {1, UseKind::forward, 5}, {2, UseKind::forward, 5}}};
  PlannedPolicy policy(kUnits, {}, {kRate, kRate});
  EXPECT_EQ(simulate(steps, kUnits, kRate, policy)[0].stall_seconds, 1);  // for the first unit
}

TEST(PlannedPolicy, APinnedUnitIsReadOnceAndDoesNotCount) {
  const Steps steps(3, {{0, UseKind::forward, 1}, {1, UseKind::forward, 1}, {2, UseKind::forward, 1}});
  PlannedPolicy policy(kUnits, {.max_live_elements = 2, .budget_bytes = 30}, {kRate, kRate});
  const auto outcomes = simulate(steps, kUnits, kRate, policy);
  EXPECT_EQ(outcomes[2].bytes_fetched, 30);  // half of the bytes are pinned
  EXPECT_LE(outcomes[2].peak_live_elements, 2u);
}

TEST(PlannedPolicy, FetchesWhatItsPlansSay) {
  for (unsigned seed = 1; seed <= 200; ++seed) {
    std::mt19937 random(seed);
    RandomTrace t = random_trace(random, Sizes::equal);
    for (UnitSize& unit : t.units) unit.update_write_bytes = 1;
    const Steps steps(4, t.uses);
    PlannedPolicy policy(t.units, {.max_live_elements = t.room}, {kRate, kRate});
    const auto outcomes = simulate(steps, t.units, kRate, policy);
    double bytes = 0;
    for (const StepOutcome& step : outcomes) bytes += step.bytes_fetched;
    EXPECT_GE(bytes, static_cast<double>(fewest_bytes(t, 4))) << "seed " << seed;
    const double first = outcomes[0].bytes_fetched;  // along a prediction that is wrong
    EXPECT_LE(bytes - first, static_cast<double>(fewest_bytes(t, 3))) << "seed " << seed;
  }
}

TEST(PlannedPolicy, StepsThatDifferStayWithinTheLimitAndEnd) {
  for (unsigned seed = 1; seed <= 500; ++seed) {
    std::mt19937 random(seed);
    const RandomTrace t = random_trace(random, Sizes::different);
    Steps steps(6, t.uses);
    for (auto& step : steps) {
      for (UnitUse& use : step) {
        if (random() % 4 == 0) use.unit = static_cast<UnitIndex>(random() % t.units.size());
      }
      if (random() % 4 == 0) step.resize(1 + random() % step.size());
    }
    PlanLimits limits{.max_live_elements = t.room};
    if (random() % 2 == 0) limits.budget_bytes = random() % 40;
    if (random() % 2 == 0) limits.persistence_elements = random() % 4;
    PlannedPolicy policy(t.units, limits, {kRate, kRate});
    for (const StepOutcome& step : simulate(steps, t.units, kRate, policy)) {
      ASSERT_LE(step.peak_live_elements, t.room) << "seed " << seed;
      ASSERT_GE(step.stall_seconds, 0) << "seed " << seed;
    }
  }
}

}  // namespace
}  // namespace orlop::zero3
