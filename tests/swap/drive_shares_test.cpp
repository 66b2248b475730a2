#include "swap/drive_shares.hpp"

#include <gmock/gmock.h>

#include "support.hpp"

namespace orlop::swap {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::uint64_t kInterval = 64_MiB;

// Moved at a rate: n bytes in n / rate seconds.
Traffic moved(std::uint64_t bytes, double gb_s) {
  return {bytes / 2, bytes / 2, static_cast<std::int64_t>(static_cast<double>(bytes) / gb_s)};
}

Traffic operator+(const Traffic& a, const Traffic& b) {
  return {a.read_bytes + b.read_bytes, a.write_bytes + b.write_bytes, a.busy_ns + b.busy_ns};
}

DriveShares shares_of_two(double first, double second) { return {{"/a", "/b"}, {first, second}, {{}, {}}, kInterval}; }

TEST(SharesOf, AreInProportionToTheRates) {
  EXPECT_THAT(shares_of(std::vector<double>{3.0, 1.0}), ElementsAre(0.75, 0.25));
  EXPECT_THAT(shares_of(std::vector<double>{2.5}), ElementsAre(1.0));
}

TEST(SharesOf, AreEqualWhereARateIsNotKnown) {
  EXPECT_THAT(shares_of(std::vector<double>{3.0, 0.0}), ElementsAre(0.5, 0.5));
}

TEST(SharesOf, LeaveTheSlowestDriveEnoughToBeMeasured) {
  const auto shares = shares_of(std::vector<double>{1000.0, 0.001});
  EXPECT_NEAR(shares[1], kLeastShare, kLeastShare / 10);
  EXPECT_DOUBLE_EQ(shares[0] + shares[1], 1.0);
}

TEST(DriveShares, ADriveThatSlowsIsGivenLessAndGetsItBackWhenItIsFastAgain) {
  auto shares = shares_of_two(2, 2);
  std::vector<Traffic> traffic(2);
  const auto sweep = [&](double first, double second) {
    traffic[0] = traffic[0] + moved(kInterval, first);
    traffic[1] = traffic[1] + moved(kInterval, second);
    return shares.look(traffic);
  };
  EXPECT_TRUE(sweep(2, 0.5));
  EXPECT_LT(shares.shares()[1], 0.4) << "at once";
  for (int i = 0; i < 12; ++i) sweep(2, 0.5);
  EXPECT_THAT(shares.shares(), ElementsAre(DoubleNear(0.8, 1e-3), DoubleNear(0.2, 1e-3)));
  EXPECT_THAT(shares.gb_s(), ElementsAre(DoubleNear(2, 1e-2), DoubleNear(0.5, 1e-2)));
  for (int i = 0; i < 12; ++i) sweep(2, 2);
  EXPECT_THAT(shares.shares(), ElementsAre(DoubleNear(0.5, 1e-3), DoubleNear(0.5, 1e-3)));
}

TEST(DriveShares, LookOnlyWhenEnoughWasMoved) {
  auto shares = shares_of_two(1, 1);
  EXPECT_FALSE(shares.look(std::vector<Traffic>{moved(kInterval / 2, 5), moved(kInterval / 4, 1)}));
  EXPECT_TRUE(shares.look(std::vector<Traffic>{moved(kInterval, 5), moved(kInterval / 4, 1)}));
}

TEST(DriveShares, WhatWasMovedBeforeDoesNotCount) {
  const std::vector<Traffic> before = {moved(kInterval * 9, 0.01), moved(kInterval * 9, 9)};
  DriveShares shares({"/a", "/b"}, {1, 1}, before, kInterval);
  EXPECT_FALSE(shares.look(before));
  EXPECT_FALSE(shares.look(std::vector<Traffic>{before[0] + moved(kInterval, 1), before[1] + moved(kInterval, 1)}))
      << "as fast as was known: the same shares";
}

TEST(DriveShares, ADriveThatMovedNextToNothingKeepsItsRate) {
  auto shares = shares_of_two(1, 3);
  shares.look(std::vector<Traffic>{moved(2 * kInterval, 1), moved(4096, 0.001)});
  EXPECT_THAT(shares.gb_s(), ElementsAre(DoubleNear(1, 1e-6), DoubleNear(3, 1e-6)));
}

TEST(DriveShares, SayInTheLogWhenTheyChangeNotably) {
  testing::CapturedLog log;
  auto shares = shares_of_two(2, 2);
  shares.look(std::vector<Traffic>{moved(kInterval, 2), moved(kInterval, 1.9)});
  EXPECT_EQ(log.text(), "");
  shares.look(std::vector<Traffic>{moved(2 * kInterval, 2), moved(2 * kInterval, 0.6)});
  EXPECT_THAT(log.text(), HasSubstr("on /b: moves"));
}

}  // namespace
}  // namespace orlop::swap
