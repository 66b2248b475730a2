#include "aio/drive_trial.hpp"

#include "base/clock.hpp"
#include "scratch.hpp"

namespace orlop::aio {
namespace {

class DriveTrialTest : public testing::Test {
 protected:
  void SetUp() override {
    write_content(folder_ / "file", 8_MiB);
    file_ = std::make_unique<File>(File::open(folder_ / "file", Existing::open).value());
  }
  static TrialLimits limits(std::uint64_t bytes) { return {bytes, now_ns() + 30'000'000'000}; }

  ScratchFolder folder_;
  std::unique_ptr<File> file_;
  AlignedMemory buffer_{2_MiB};
};

TEST_F(DriveTrialTest, MovesWhatItWasTold) {
  const DriveTrial trial(*file_, 8_MiB, QueueKind::threads, buffer_.span());
  const auto result = trial.run(Load::read, {512_KiB, 512_KiB, 4}, limits(20_MiB));
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->bytes, 20_MiB);
  EXPECT_GT(result->gb_per_s(), 0);
  EXPECT_TRUE(has_content(read_whole(folder_ / "file"), 0));  // reading changes nothing
}

TEST_F(DriveTrialTest, WritesTheWindowAndNothingBeyond) {
  const DriveTrial trial(*file_, 4_MiB, QueueKind::threads, buffer_.span());
  for (std::size_t at = 0; at < 2_MiB; at += 256_KiB) fill_content(buffer_.span().subspan(at, 256_KiB), 0, 3);
  ASSERT_TRUE(trial.run(Load::write, {256_KiB, 256_KiB, 4}, limits(4_MiB)));
  const auto content = read_whole(folder_ / "file");
  for (std::size_t at = 0; at < 4_MiB; at += 256_KiB) {
    EXPECT_TRUE(has_content(std::span(content).subspan(at, 256_KiB), 0, 3)) << at;
  }
  EXPECT_TRUE(has_content(std::span(content).subspan(4_MiB), 4_MiB, 0));
}

TEST_F(DriveTrialTest, MovesHalfAndHalfInBothManners) {
  const DriveTrial trial(*file_, 8_MiB, QueueKind::threads, buffer_.span());
  for (const auto mixing : {Mixing::mixed, Mixing::phased}) {
    const auto result = trial.run(Load::half_and_half, {256_KiB, 512_KiB, 8, mixing, 1_MiB}, limits(16_MiB));
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(result->bytes, 16_MiB);
  }
}

TEST_F(DriveTrialTest, EndsWhenItsTimeIsUp) {
  const DriveTrial trial(*file_, 8_MiB, QueueKind::threads, buffer_.span());
  const auto result = trial.run(Load::read, {256_KiB, 256_KiB, 4}, {1_GiB * 1024, now_ns()});
  ASSERT_TRUE(result);
  EXPECT_GT(result->bytes, 0u);
  EXPECT_LT(result->bytes, 64_MiB);
}

TEST_F(DriveTrialTest, RefusesRequestsThatDoNotFit) {
  const DriveTrial trial(*file_, 8_MiB, QueueKind::threads, buffer_.span());
  EXPECT_EQ(trial.run(Load::read, {4_MiB, 4_MiB, 4}, limits(8_MiB)).error().status, ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(trial.run(Load::read, {0, 0, 4}, limits(8_MiB)).error().status, ORLOP_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace orlop::aio
