#include "zero3/planner/plan.hpp"

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "zero3/random_trace.hpp"

namespace orlop::zero3 {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// Memory that does what a plan says, and complains about what a plan must not say.
class Replay {
 public:
  Replay(const RandomTrace& t, std::uint64_t max_live) : t_(t), max_live_(max_live) {}

  void run(const Plan& plan) {
    const auto actions = plan.actions();
    auto action = actions.begin();
    const auto perform_while = [&](auto&& holds) {
      for (; action != actions.end() && holds(*action); ++action) perform(*action);
    };
    for (position_ = 0; position_ < t_.uses.size(); ++position_) {
      in_use_.reset();
      perform_while([&](const Action& a) { return a.issue == position_ && a.deadline == position_; });
      in_use_ = unit();
      ASSERT_TRUE(resident_.contains(unit())) << "use " << position_ << " without its fetch";
      out_.erase(unit());
      perform_while([&](const Action& a) { return a.issue == position_ && a.kind != ActionKind::evict; });
      in_use_.reset();
      perform_while([&](const Action& a) { return a.issue == position_; });
    }
    ASSERT_EQ(action, actions.end());
    for (auto& [unit, next_use] : out_) next_use -= t_.uses.size();
  }

  [[nodiscard]] std::vector<UnitIndex> resident() const { return {resident_.begin(), resident_.end()}; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  [[nodiscard]] UnitIndex unit() const { return t_.uses[position_].unit; }

  void perform(const Action& a) {
    if (a.kind == ActionKind::fetch) fetch(a);
    if (a.kind == ActionKind::evict) evict(a.unit);
  }

  void fetch(const Action& a) {
    ASSERT_TRUE(resident_.insert(a.unit).second) << a.unit << " is there already";
    out_.erase(a.unit);
    bytes_ += t_.units[a.unit].fetch_bytes;
    for (const auto& [unit, next_use] : out_) {
      ASSERT_LE(a.deadline, next_use) << a.unit << " took the room of " << unit << ", which is needed sooner";
    }
    const bool is_alone = resident_.size() == 1;
    ASSERT_TRUE(is_alone || live() <= max_live_) << "use " << position_;
  }

  void evict(UnitIndex unit) {
    ASSERT_NE(in_use_, unit) << "evicted while in use";
    ASSERT_EQ(resident_.erase(unit), 1u) << unit << " is not there";
    const UseTrace trace = t_.trace();
    const std::size_t begun = position_ + (trace[position_].unit == unit ? 0 : trace.size() - 1);
    const std::size_t next = trace.next_use(unit, begun % trace.size());
    if (next != UseTrace::kNever) out_[unit] = trace[position_].unit == unit ? position_ + next : next - 1;
  }

  [[nodiscard]] std::uint64_t live() const {
    std::uint64_t elements = 0;
    for (const UnitIndex unit : resident_) elements += t_.units[unit].elements;
    return elements;
  }

  const RandomTrace& t_;
  const std::uint64_t max_live_;
  std::set<UnitIndex> resident_;
  std::map<UnitIndex, std::size_t> out_;  // evicted, and the use they are needed for
  std::optional<UnitIndex> in_use_;
  std::size_t position_ = 0;
  std::uint64_t bytes_ = 0;
};

PlanLimits random_limits(std::mt19937& random, std::uint64_t room) {
  PlanLimits limits{.max_live_elements = room};
  if (random() % 2 == 0) limits.prefetch_elements = random() % 20;
  if (random() % 2 == 0) limits.max_reuse_distance_elements = random() % 40;
  return limits;
}

TEST(Plan, KeepsItsPromisesOnRandomTraces) {
  for (unsigned seed = 1; seed <= 2000; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    RandomTrace t = random_trace(random, seed % 2 == 0 ? Sizes::equal : Sizes::different);
    if (random() % 4 == 0) t.room = 1 + random() % t.room;  // some units are larger
    const PlanLimits limits = random_limits(random, t.room);
    const UseTrace trace = t.trace();
    Replay replay(t, t.room);
    for (int step = 0; step < 3; ++step) {
      const auto resident = replay.resident();
      replay.run(Plan({trace, t.units, limits, {}}, resident));
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Plan, FetchesTheFewestBytesOfUnitsOfOneSize) {
  for (unsigned seed = 1; seed <= 300; ++seed) {
    std::mt19937 random(seed);
    const RandomTrace t = random_trace(random, Sizes::equal);
    RandomTrace updated = t;  // nothing is fetched for the step after
    for (UnitSize& unit : updated.units) unit.update_write_bytes = 1;
    const UseTrace trace = t.trace();
    Replay replay(updated, t.room);
    for (int step = 0; step < 3; ++step) {
      replay.run(Plan({trace, updated.units, {.max_live_elements = t.room}, {}}, replay.resident()));
    }
    ASSERT_EQ(replay.bytes(), fewest_bytes(t, 3)) << "seed " << seed;
  }
}

// Four units of 10, forward and backward.
struct Case {
  UseTrace trace = UseTrace::predicted(4);
  std::vector<UnitSize> units = std::vector<UnitSize>(4, {10, 20});
  PlanLimits limits{.max_live_elements = 20};

  [[nodiscard]] Plan plan(const std::vector<UnitIndex>& resident = {}) const {
    return {{trace, units, limits, {}}, resident};
  }
};

std::size_t count(const Plan& plan, ActionKind kind) {
  return static_cast<std::size_t>(std::ranges::count(plan.actions(), kind, &Action::kind));
}

TEST(Plan, MaxLiveDecidesHowMuchIsFetched) {
  Case c;
  EXPECT_EQ(count(c.plan(), ActionKind::fetch), 6u);  // 3 and 2 stay for backward
  c.limits.max_live_elements = 40;
  EXPECT_EQ(count(c.plan(), ActionKind::fetch), 4u);
  EXPECT_EQ(count(c.plan(), ActionKind::evict), 0u);
}

TEST(Plan, MaxReuseDistanceReleasesWhatIsUsedLater) {
  Case c;
  c.limits = {.max_reuse_distance_elements = 21};  // two units between
  const Plan plan = c.plan();
  EXPECT_FALSE(plan.should_keep(0, 0, 10));
  EXPECT_FALSE(plan.should_keep(1, 1, 20));
  EXPECT_TRUE(plan.should_keep(2, 2, 30));
  EXPECT_TRUE(plan.should_keep(3, 3, 40));
}

TEST(Plan, PersistentUnitsAreNotEvicted) {
  Case c;
  c.units[0] = {1, 2};
  c.limits = {.max_live_elements = 21, .persistence_elements = 1};
  const Plan plan = c.plan();
  EXPECT_TRUE(plan.is_held(0));
  EXPECT_TRUE(plan.should_keep(0, 0, 21));
  EXPECT_THAT(plan.pinned(), IsEmpty());
  for (const Action& a : plan.actions()) EXPECT_FALSE(a.unit == 0 && a.kind == ActionKind::evict);
}

TEST(Plan, TheBudgetPinsUnitsThatAreThenFetchedOnce) {
  Case c;
  c.limits.budget_bytes = 50;
  EXPECT_EQ(c.plan().pinned().size(), 2u);
  c.limits.staging_bytes = 20;
  ASSERT_EQ(c.plan().pinned().size(), 1u);
  const UnitIndex pinned = c.plan().pinned()[0];
  const auto of_pinned = [&](const Plan& plan) {
    return std::ranges::count(plan.actions(), pinned, &Action::unit);
  };
  EXPECT_EQ(of_pinned(c.plan()), 1);
  EXPECT_EQ(of_pinned(c.plan({pinned})), 0);
}

TEST(Plan, VictimsAreThoseUsedFurthestInTheFuture) {
  const Plan plan = Case{}.plan();
  const std::vector<UnitIndex> idle = {0, 1, 3};
  EXPECT_THAT(plan.victims(2, 10, idle), ElementsAre(0));
  EXPECT_THAT(plan.victims(2, 11, idle), ElementsAre(0, 1));
  EXPECT_THAT(plan.victims(2, 99, idle), ElementsAre(0, 1, 3));
  EXPECT_THAT(plan.victims(2, 0, idle), IsEmpty());
}

TEST(Plan, NoVictimIsNeededSoonerThanWhatItMakesRoomFor) {
  const Plan plan = Case{}.plan();                // keeps neither 0 nor 1 until backward
  const std::vector<UnitIndex> idle = {0, 1, 3};  // used again 5, 4 and 1 uses after position 2
  EXPECT_THAT(plan.victims(2, 10, idle, 3), ElementsAre(0));
  EXPECT_THAT(plan.victims(2, 20, idle, 3), ElementsAre(0, 1));
  EXPECT_THAT(plan.victims(2, 20, idle, 4), IsEmpty());  // 0 alone is not enough
  EXPECT_THAT(plan.victims(2, 10, idle, 5), IsEmpty());
}

TEST(Plan, AReadAheadDoesNotEvictWhatThePlanKeeps) {
  Case c;
  c.limits.max_live_elements = 30;  // 1 and 2 stay until backward
  const std::vector<UnitIndex> idle = {0, 1};
  EXPECT_THAT(c.plan().victims(2, 10, idle, 1), ElementsAre(0));
  EXPECT_THAT(c.plan().victims(2, 20, idle, 1), IsEmpty());
  EXPECT_THAT(c.plan().victims(2, 20, idle), ElementsAre(0, 1));  // needed now
}

TEST(Plan, VictimsAreNoMoreThanNeeded) {
  Case c;
  c.units[0].elements = 1;
  EXPECT_THAT(c.plan().victims(2, 10, std::vector<UnitIndex>{0, 1}), ElementsAre(1));
}

TEST(Plan, NamesWhatIsToBeReadAhead) {
  Case c;
  c.limits.max_live_elements = 40;
  const Plan plan = c.plan();
  EXPECT_THAT(plan.upcoming(0, {true, false, false, false}), ElementsAre(1, 2, 3));
  EXPECT_THAT(plan.upcoming(0, {true, true, false, false}), ElementsAre(2, 3));
  EXPECT_THAT(plan.upcoming(3, {true, true, true, true}), IsEmpty());
}

TEST(Plan, ReadsAheadWhatHasLeftMemoryAgainstThePlan) {
  Case c;
  c.limits.max_live_elements = 40;
  EXPECT_THAT(c.plan().upcoming(4, {true, false, true, true}), ElementsAre(1));
}

TEST(Plan, TheLookAheadCountsWhatWasReadBefore) {
  Case c;
  c.limits = {.prefetch_elements = 20};
  const Plan plan = c.plan();
  EXPECT_THAT(plan.upcoming(0, {true, false, false, false}), ElementsAre(1, 2));
  EXPECT_THAT(plan.upcoming(0, {true, true, false, false}), ElementsAre(2));
  EXPECT_THAT(plan.upcoming(1, {true, true, true, false}), ElementsAre(3));
}

TEST(Plan, AUseThatCameUnexpectedStaysWhileThereIsRoom) {
  Case c;
  const Plan plan = c.plan();
  EXPECT_TRUE(plan.should_keep(3, 0, 20));
  EXPECT_FALSE(plan.should_keep(3, 0, 21));
}

TEST(Plan, UpdatesEveryUsedUnitOnceBeforeItsFetch) {
  Case c;
  for (UnitSize& unit : c.units) unit.update_write_bytes = 5;
  std::vector<bool> is_updated(4);
  const Plan plan = c.plan({0});
  for (const Action& a : plan.actions()) {
    if (a.kind == ActionKind::update) {
      EXPECT_FALSE(is_updated[a.unit]);
      is_updated[a.unit] = true;
      EXPECT_LE(a.issue, a.deadline);
    } else {
      EXPECT_TRUE(is_updated[a.unit]);
    }
  }
  EXPECT_THAT(is_updated, testing::Each(true));
}

TEST(Plan, IsTheSameForTheSameInput) {
  const Case c;
  const Plan first = c.plan();
  const Plan second = c.plan();
  EXPECT_TRUE(std::ranges::equal(first.actions(), second.actions()));
}

}  // namespace
}  // namespace orlop::zero3
