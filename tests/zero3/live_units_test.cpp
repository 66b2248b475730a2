#include "zero3/live_units.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace orlop::zero3 {
namespace {

using testing::ElementsAre;

// Unit 1 is in memory; 0 and 2, of 100 and 300 elements, live in the store.
UnitPlan plan() {
  return {{{Dtype::bf16, Training::trainable, Home::store, 100, {0}},
           {Dtype::bf16, Training::trainable, Home::memory, 200, {1}},
           {Dtype::f32, Training::frozen, Home::store, 300, {2}}},
          {{0, 0}, {1, 0}, {2, 0}}};
}

class Live : public testing::Test {
 protected:
  LiveUnits live_{plan(), kernels::Optimizer::adam, std::vector<std::uint64_t>{200, 0, 4}};
  std::byte here_[2] = {};
};

TEST_F(Live, StoredUnitsHaveIndicesOfTheirOwn) {
  ASSERT_EQ(live_.sizes().size(), 2u);
  EXPECT_EQ(live_.unit_of(1), 2u);
  EXPECT_EQ(live_.index_of(2), 1u);
  EXPECT_EQ(live_.sizes()[0].fetch_bytes, 200u);
  EXPECT_TRUE(live_.sizes()[0].is_updated());
  EXPECT_EQ(live_.sizes()[1].fetch_bytes, 4u) << "the rest is in host memory";
  EXPECT_FALSE(live_.sizes()[1].is_updated()) << "frozen";
}

TEST_F(Live, AUnitHasItsValuesOnceItIsFilledAndUntilItIsEvicted) {
  EXPECT_FALSE(live_.begin_use(1, here_));
  EXPECT_EQ(live_.values_of(2), nullptr);
  live_.set_filled(1);
  EXPECT_EQ(live_.values_of(2), here_);
  live_.end_use(1);
  EXPECT_TRUE(live_.begin_use(1, here_));
  live_.evict(1);
  EXPECT_EQ(live_.values_of(2), nullptr);
  EXPECT_FALSE(live_.begin_use(1, here_));
}

TEST_F(Live, OtherMemoryHasNoValues) {
  live_.begin_use(0, here_);
  live_.set_filled(0);
  EXPECT_FALSE(live_.begin_use(0, here_ + 1));
  EXPECT_EQ(live_.elements(), 100u) << "counted once";
}

TEST_F(Live, WhatIsForgottenIsLiveWithoutItsValues) {
  live_.begin_use(0, here_);
  live_.set_filled(0);
  live_.forget_values();
  EXPECT_TRUE(live_.is_live(0));
  EXPECT_EQ(live_.values_of(0), nullptr);
  EXPECT_FALSE(live_.begin_use(0, here_));
}

TEST_F(Live, CountsWhatIsInMemoryAndSaysWhatIsNotInUse) {
  live_.begin_use(0, here_);
  live_.begin_use(1, here_ + 1);
  EXPECT_EQ(live_.elements(), 400u);
  EXPECT_EQ(live_.bytes(), 1400u);
  EXPECT_TRUE(live_.idle().empty());
  live_.end_use(0);
  EXPECT_THAT(live_.idle(), ElementsAre(0));
  live_.evict(0);
  live_.evict(0);  // it is not there: nothing more
  EXPECT_EQ(live_.elements(), 300u);
}

}  // namespace
}  // namespace orlop::zero3
