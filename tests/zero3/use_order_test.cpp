#include "zero3/use_order.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace orlop::zero3 {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

void use(UseOrder& order, std::initializer_list<std::uint32_t> units) {
  for (const std::uint32_t unit : units) order.note(unit);
}

TEST(UseOrder, ExpectsTheOrderOfRegistrationBeforeThereWasAStep) {
  UseOrder order(5);
  EXPECT_THAT(order.upcoming(3), ElementsAre(0, 1, 2));
  use(order, {0, 1});
  EXPECT_THAT(order.upcoming(9), ElementsAre(2, 3, 4));
  use(order, {2, 3, 4});
  EXPECT_THAT(order.upcoming(9), IsEmpty());
}

TEST(UseOrder, TurnsAroundWhenUnitsComeBackwards) {
  UseOrder order(5);
  use(order, {0, 1, 2, 3, 4, 3});
  EXPECT_THAT(order.upcoming(9), ElementsAre(2, 1, 0));
}

TEST(UseOrder, ExpectsTheStepBefore) {
  UseOrder order(4);
  use(order, {2, 0, 3, 3, 0, 2});
  order.end_step();
  EXPECT_THAT(order.upcoming(2), ElementsAre(2, 0));
  use(order, {2, 0, 3});
  EXPECT_THAT(order.upcoming(9), ElementsAre(3, 0, 2));
  EXPECT_EQ(order.surprises(), 0u);
}

TEST(UseOrder, SkipsWhatIsLeftOutAndPassesOverWhatIsNew) {
  UseOrder order(6);
  use(order, {0, 1, 2, 3});
  order.end_step();
  use(order, {0, 2});  // without 1
  EXPECT_THAT(order.upcoming(9), ElementsAre(3));
  use(order, {5});  // never seen
  EXPECT_THAT(order.upcoming(9), ElementsAre(3));
  EXPECT_EQ(order.surprises(), 2u);
  order.end_step();
  EXPECT_THAT(order.upcoming(9), ElementsAre(0, 2, 5));
}

TEST(UseOrder, AnEmptyStepChangesNothing) {
  UseOrder order(3);
  use(order, {1, 2});
  order.end_step();
  order.end_step();
  EXPECT_THAT(order.upcoming(9), ElementsAre(1, 2));
}

}  // namespace
}  // namespace orlop::zero3
