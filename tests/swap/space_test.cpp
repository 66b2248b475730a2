#include "swap/space.hpp"

#include <random>

#include <gtest/gtest.h>

#include "rounds.hpp"
#include "space_fuzz.hpp"

namespace orlop::swap {
namespace {

void release(Space& space, const Extent& extent) {
  for (const GrainRun& run : extent.runs) space.release(run);
}

TEST(Space, AgreesWithTheModelUnderRandomOperations) {
  for (std::uint64_t seed = 1; seed <= rounds(60, 15); ++seed) {
    std::mt19937_64 random(seed);
    std::vector<std::uint8_t> bytes(1200);
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random());
    ASSERT_EQ(fuzz_space(bytes), "") << "seed " << seed;
  }
}

TEST(Space, FollowsTheLastAllocation) {
  Space space(10);
  const auto first = space.allocate(3 * kGrainBytes).value();
  const auto second = space.allocate(3 * kGrainBytes).value();
  release(space, first);
  EXPECT_EQ(second.runs, (std::vector<GrainRun>{{3, 3}}));
  EXPECT_EQ(space.allocate(3 * kGrainBytes).value().runs, (std::vector<GrainRun>{{6, 3}})) << "not back into the hole";
  EXPECT_EQ(space.allocate(3 * kGrainBytes).value().runs, (std::vector<GrainRun>{{0, 3}})) << "round the end";
}

TEST(Space, GivesScatteredGrainsWhenNoRunIsLongEnough) {
  Space space(6);
  std::vector<Extent> singles;
  for (int i = 0; i < 6; ++i) singles.push_back(space.allocate(1).value());
  for (const int i : {0, 2, 4}) release(space, singles[static_cast<std::size_t>(i)]);
  const auto extent = space.allocate(3 * kGrainBytes).value();
  EXPECT_EQ(extent.runs, (std::vector<GrainRun>{{0, 1}, {2, 1}, {4, 1}}));
  EXPECT_EQ(space.free_grains(), 0u);
}

TEST(Space, RefusesWhatIsNotThereAndSaysHowMuchIs) {
  Space space(4);
  const auto extent = space.allocate(5 * kGrainBytes);
  ASSERT_FALSE(extent);
  EXPECT_EQ(extent.error().status, ORLOP_NO_SPACE);
  EXPECT_NE(extent.error().message.find("4 of 4 grains free"), std::string::npos) << extent.error().message;
}

TEST(Space, ReleasedNeighboursBecomeOneRunAgain) {
  Space space(130);
  std::vector<Extent> extents;
  for (int i = 0; i < 130; ++i) extents.push_back(space.allocate(1).value());
  for (const auto& extent : extents) release(space, extent);
  EXPECT_EQ(space.allocate(130 * kGrainBytes).value().runs, (std::vector<GrainRun>{{0, 130}}));
}

}  // namespace
}  // namespace orlop::swap
