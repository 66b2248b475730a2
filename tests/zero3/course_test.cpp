#include "zero3/planner/course.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace orlop::zero3 {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr DriveRates kRates{};

// Four units of 10 elements, all updated.
std::vector<UnitSize> units() {
  return std::vector<UnitSize>(4, {10, 20, 1, 1});
}

struct Pass {
  Course course{units(), {.max_live_elements = 20, .prefetch_elements = 20}};
  std::vector<bool> is_resident = std::vector<bool>(4);

  void use(const std::vector<UnitIndex>& order, UseKind kind) {
    for (const UnitIndex unit : order) course.use(unit, kind, 0);
  }
  void whole() {
    use({0, 1, 2, 3}, UseKind::forward);
    use({3, 2, 1, 0}, UseKind::backward);
  }
};

TEST(Course, BeforeTheFirstUseWhatThePassBeginsWithIsReadAhead) {
  Pass p;
  EXPECT_THAT(p.course.upcoming(p.is_resident), ElementsAre(0, 1));
  p.is_resident[0] = true;
  EXPECT_THAT(p.course.upcoming(p.is_resident), ElementsAre(1));
}

TEST(Course, NothingOfTheNextPassIsReadWhileUnitsAreYetToBeUpdated) {
  Pass p;
  p.whole();
  EXPECT_THAT(p.course.upcoming(p.is_resident), IsEmpty());
  EXPECT_FALSE(p.course.reads_more());
  p.course.end_pass(0, p.is_resident, kRates);
  EXPECT_TRUE(p.course.reads_more());
  EXPECT_THAT(p.course.upcoming(p.is_resident), ElementsAre(0, 1));
}

TEST(Course, APassLikeTheOneBeforeNeedsNoNewPlan) {
  Pass p;
  p.whole();
  EXPECT_FALSE(p.course.end_pass(0, p.is_resident, kRates)) << "as registered";
  p.whole();
  p.course.end_pass(0, p.is_resident, kRates);
  EXPECT_EQ(p.course.plans_made(), 1u);
  p.is_resident[2] = true;  // something else is in memory
  p.whole();
  EXPECT_FALSE(p.course.end_pass(0, p.is_resident, kRates));
  EXPECT_EQ(p.course.plans_made(), 2u);
  p.use({0, 2}, UseKind::forward);
  EXPECT_TRUE(p.course.end_pass(0, p.is_resident, kRates));
  EXPECT_EQ(p.course.plans_made(), 3u);
}

TEST(Course, AnEvaluationGoesRoundTheForwardUses) {
  Pass p;
  p.use({2, 0, 3}, UseKind::forward);
  p.use({3, 0, 2}, UseKind::backward);
  p.course.end_pass(0, p.is_resident, kRates);
  Course evaluation = Course::of_forward_uses(p.course);
  EXPECT_THAT(evaluation.upcoming(p.is_resident), ElementsAre(2, 0));
  for (const UnitIndex unit : {2, 0, 3}) evaluation.use(unit, UseKind::forward, 0);
  EXPECT_THAT(evaluation.upcoming(p.is_resident), ElementsAre(2, 0)) << "the next token";
}

TEST(Course, NothingStaysBeyondTheLimit) {
  Pass p;
  const std::size_t position = p.course.use(3, UseKind::forward, 0);
  EXPECT_TRUE(p.course.may_stay(3, position, 20));
  EXPECT_FALSE(p.course.may_stay(3, position, 30));
}

}  // namespace
}  // namespace orlop::zero3
