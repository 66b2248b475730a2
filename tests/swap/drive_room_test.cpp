#include "swap/drive_room.hpp"

#include <numeric>
#include <random>

#include <gtest/gtest.h>

namespace orlop::swap {
namespace {

using Grains = std::vector<std::uint64_t>;

std::uint64_t sum(const Grains& grains) { return std::accumulate(grains.begin(), grains.end(), std::uint64_t{0}); }

TEST(Apportion, IsExact) {
  EXPECT_EQ(apportion(10, std::vector<double>{0.5, 0.5}), (Grains{5, 5}));
  EXPECT_EQ(apportion(3, std::vector<double>{0.5, 0.5}), (Grains{2, 1}));
  EXPECT_EQ(apportion(100, std::vector<double>{3, 1}), (Grains{75, 25}));
  EXPECT_EQ(apportion(0, std::vector<double>{1, 2}), (Grains{0, 0}));
  EXPECT_EQ(apportion(7, std::vector<double>{0, 1}), (Grains{0, 7}));
}

TEST(Apportion, ADriveGetsNoMoreThanItHasRoomFor) {
  const std::vector<DriveRoom> rooms = {{1, 10}, {2, 1000}, {3, 1000}};
  EXPECT_EQ(*apportion(300, std::vector<double>{0.5, 0.25, 0.25}, rooms), (Grains{10, 145, 145}));
}

TEST(Apportion, DrivesOnOneFilesystemShareItsRoom) {
  const std::vector<DriveRoom> rooms = {{1, 100}, {1, 100}, {2, 1000}};
  EXPECT_EQ(*apportion(300, std::vector<double>{0.4, 0.4, 0.2}, rooms), (Grains{50, 50, 200}));
  EXPECT_EQ(grains_in(rooms), 1100u);
  EXPECT_FALSE(apportion(1101, std::vector<double>{0.4, 0.4, 0.2}, rooms));
  EXPECT_EQ(*apportion(1100, std::vector<double>{0.4, 0.4, 0.2}, rooms), (Grains{50, 50, 1000}));
}

TEST(Apportion, GivesOutAllExactlyWhenThereIsRoomForAll) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    std::mt19937_64 random(seed);
    std::vector<double> shares(1 + random() % 5);
    std::vector<DriveRoom> rooms(shares.size());
    for (double& share : shares) share = static_cast<double>(1 + random() % 100);
    for (DriveRoom& room : rooms) room.filesystem = random() % 3;
    for (DriveRoom& room : rooms) room.grains = room.filesystem * 500 + 100;  // one number for a filesystem
    const std::uint64_t total = random() % 2000;
    const auto parts = apportion(total, shares, rooms);
    ASSERT_EQ(parts.has_value(), total <= grains_in(rooms)) << "seed " << seed;
    if (!parts) continue;
    ASSERT_EQ(sum(*parts), total) << "seed " << seed;
    for (std::uint64_t filesystem = 0; filesystem < 3; ++filesystem) {
      std::uint64_t taken = 0;
      for (std::size_t i = 0; i < rooms.size(); ++i) taken += rooms[i].filesystem == filesystem ? (*parts)[i] : 0;
      ASSERT_LE(taken, filesystem * 500 + 100) << "seed " << seed;
    }
  }
}

TEST(DriveRoom, OfADirectoryIsWhatItsFilesystemHasFree) {
  const auto room = room_at(".");
  ASSERT_TRUE(room);
  EXPECT_GT(room->grains, 0u);
  EXPECT_FALSE(room_at("./not/there"));
  const std::vector<std::string> twice = {".", "."};
  const auto rooms = rooms_for_files(twice).value();
  EXPECT_EQ(rooms[0].filesystem, rooms[1].filesystem);
  EXPECT_LT(rooms[0].grains, room->grains) << "headers are taken off";
}

}  // namespace
}  // namespace orlop::swap
