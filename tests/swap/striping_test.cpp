#include "swap/striping.hpp"

#include <numeric>
#include <random>

#include <gtest/gtest.h>

namespace orlop::swap {
namespace {

constexpr std::uint32_t kPlenty = 1'000'000;

std::vector<std::uint64_t> by_drive(const std::vector<Stripe>& stripes, std::size_t drives) {
  std::vector<std::uint64_t> grains(drives);
  for (const Stripe& stripe : stripes) grains[stripe.drive] += stripe.grain_count;
  return grains;
}

TEST(Striping, OneDriveGetsAllInOneStretch) {
  Striping striping({1});
  EXPECT_EQ(striping.cut(83, {kPlenty}), (std::vector<Stripe>{{0, 83}}));
}

TEST(Striping, EqualDrivesTakeTurns) {
  Striping striping({0.5, 0.5});
  EXPECT_EQ(striping.cut(12, {kPlenty, kPlenty}), (std::vector<Stripe>{{0, 4}, {1, 4}, {0, 4}}));
  EXPECT_EQ(striping.cut(4, {kPlenty, kPlenty}), (std::vector<Stripe>{{1, 4}})) << "from where the one before ended";
}

TEST(Striping, OverManyExtentsEachDriveGetsItsShareWhateverTheirSizes) {
  std::mt19937_64 random(5);
  const std::vector<double> shares = {0.62, 0.3, 0.08};
  Striping striping(shares);
  std::vector<std::uint64_t> got(3);
  std::uint64_t all = 0;
  for (int i = 0; i < 2000; ++i) {
    const auto grains = static_cast<std::uint32_t>(1 + random() % (i % 2 == 0 ? 3 : 90));
    const auto given = by_drive(striping.cut(grains, {kPlenty, kPlenty, kPlenty}), 3);
    ASSERT_EQ(std::accumulate(given.begin(), given.end(), std::uint64_t{0}), grains);
    for (std::size_t drive = 0; drive < 3; ++drive) got[drive] += given[drive];
    all += grains;
    for (std::size_t drive = 0; drive < 3; ++drive) {
      ASSERT_NEAR(static_cast<double>(got[drive]), shares[drive] * static_cast<double>(all), 2 * kStripeGrains) << i;
    }
  }
}

TEST(Striping, AnyPartOfAnExtentIsOnAllDrivesThatHaveAGoodShare) {
  Striping striping({0.4, 0.6});
  std::uint32_t longest = 0;
  for (const Stripe& stripe : striping.cut(200, {kPlenty, kPlenty})) longest = std::max(longest, stripe.grain_count);
  EXPECT_LE(longest, 2 * kStripeGrains);
}

TEST(Striping, ADriveWithoutRoomIsPassedOver) {
  Striping striping({0.9, 0.1});
  EXPECT_EQ(by_drive(striping.cut(20, {3, kPlenty}), 2), (std::vector<std::uint64_t>{3, 17}));
  EXPECT_EQ(by_drive(striping.cut(20, {0, 20}), 2), (std::vector<std::uint64_t>{0, 20}));
}

TEST(Striping, ADriveThatHadNoRoomDoesNotGetAllThatItMissed) {
  Striping striping({0.5, 0.5});
  for (int i = 0; i < 100; ++i) striping.cut(40, {0, kPlenty});
  const auto given = by_drive(striping.cut(400, {kPlenty, kPlenty}), 2);
  EXPECT_NEAR(static_cast<double>(given[0]), 200, 6 * kStripeGrains);
}

TEST(Striping, GivesOutAllEvenWhereNobodyHasRoom) {
  Striping striping({0.5, 0.5});
  const auto given = by_drive(striping.cut(40, {4, 4}), 2);
  EXPECT_EQ(given[0] + given[1], 40u) << "the allocation says that it fails";
}

}  // namespace
}  // namespace orlop::swap
