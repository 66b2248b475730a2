#include "bench/step_size.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.hpp"

namespace orlop::bench {
namespace {

using testing::HasSubstr;

constexpr SizeLimits kRoomy{.memory_bytes = 12'000'000'000, .disk_bytes = 40'000'000'000, .mixed_gb_s = 2.5,
                            .first_write_gb_s = 2.5, .populate_gb_s = 2, .param_bytes = 2};

TEST(StepSize, IsBoundByTheDrivesSpeedOnARoomyMachine) {
  const StepSize size = fit_size(kRoomy, 4);
  EXPECT_THAT(size.why, HasSubstr("the drive does 2.50 GB/s"));
  EXPECT_GT(size.params, 100'000'000u);
  EXPECT_LT(size.params, 600'000'000u);
}

TEST(StepSize, GrowsWithTheDrive) {
  SizeLimits fast = kRoomy;
  fast.mixed_gb_s = fast.first_write_gb_s = 10;
  EXPECT_GT(fit_size(fast, 4).params, fit_size(kRoomy, 4).params);
}

TEST(StepSize, ShrinksWhereNewMemoryIsSlow) {
  SizeLimits slow = kRoomy;
  slow.populate_gb_s = 0.1;
  EXPECT_LT(fit_size(slow, 4).params, fit_size(kRoomy, 4).params);
}

TEST(StepSize, OfMoreStepsIsSmaller) { EXPECT_LT(fit_size(kRoomy, 20).params, fit_size(kRoomy, 4).params); }

// Two engines, with gradients and parameters of 2 bytes each, have to fit.
TEST(StepSize, KeepsWithinMemory) {
  SizeLimits small = kRoomy;
  small.memory_bytes = 1_GiB;
  const StepSize size = fit_size(small, 4);
  EXPECT_THAT(size.why, HasSubstr("1.00 GiB of memory"));
  EXPECT_LE(size.params * 8, 1_GiB);
}

TEST(StepSize, KeepsWithinTheDisk) {
  SizeLimits small = kRoomy;
  small.disk_bytes = 1'000'000'000;
  const StepSize size = fit_size(small, 4);
  EXPECT_THAT(size.why, HasSubstr("of disk"));
  EXPECT_LE(size.params * 30, 1'000'000'000u);
}

TEST(StepSize, CountsStatesWhereTheyAreInMemory) {
  SizeLimits memory = kRoomy;
  memory.disk_bytes = 0;
  memory.memory_bytes = 1_GiB;
  EXPECT_LE(fit_size(memory, 4).params * 14, 1_GiB);
}

TEST(StepSize, IsNeverNothing) {
  SizeLimits none = kRoomy;
  none.memory_bytes = 1;
  EXPECT_GE(fit_size(none, 4).params, 1'000'000u);
}

TEST(StepSize, IsANumberThatOneCanRemember) {
  std::uint64_t params = fit_size(kRoomy, 4).params;
  while (params % 10 == 0) params /= 10;
  EXPECT_LT(params, 100u);
}

}  // namespace
}  // namespace orlop::bench
