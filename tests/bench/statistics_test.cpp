#include "bench/statistics.hpp"

#include <gtest/gtest.h>

namespace orlop::bench {
namespace {

TEST(Statistics, QuantilesAreInterpolatedBetweenSortedSamples) {
  const Quantiles q = quantiles_of({5, 1, 4, 2, 3});
  EXPECT_DOUBLE_EQ(q.median, 3);
  EXPECT_DOUBLE_EQ(q.p10, 1.4);
  EXPECT_DOUBLE_EQ(q.p90, 4.6);
}

TEST(Statistics, TheMedianOfAnEvenNumberIsBetweenTheTwoInTheMiddle) { EXPECT_DOUBLE_EQ(median_of({1, 2, 10, 4}), 3); }

TEST(Statistics, OneSampleIsAllOfItsQuantiles) {
  const Quantiles q = quantiles_of({7});
  EXPECT_DOUBLE_EQ(q.median, 7);
  EXPECT_DOUBLE_EQ(q.p10, 7);
  EXPECT_DOUBLE_EQ(q.p90, 7);
}

TEST(Statistics, OfNothingAreZero) { EXPECT_DOUBLE_EQ(median_of({}), 0); }

}  // namespace
}  // namespace orlop::bench
