#include "aio/calibration.hpp"

#include <algorithm>

#include <gmock/gmock.h>

#include "base/clock.hpp"
#include "scratch.hpp"

namespace orlop::aio {
namespace {

using testing::HasSubstr;

class CalibrationTest : public testing::Test {
 protected:
  void SetUp() override {
    file_ = std::make_unique<File>(File::open(folder_ / "store", Existing::must_not_exist).value());
    ASSERT_TRUE(file_->preallocate(kRegion));
  }
  Result<Calibration> measure(const CalibrationOverrides& overrides,
                              CalibrationLimits limits = {0.5, 128_MiB}) {
    return calibrate(*file_, kRegion, QueueKind::threads, buffer_.span(), overrides, limits);
  }

  static constexpr std::uint64_t kRegion = 16_MiB;
  ScratchFolder folder_;
  std::unique_ptr<File> file_;
  AlignedMemory buffer_{16_MiB};
};

TEST_F(CalibrationTest, MeasuresWhatIsNotFixed) {
  const auto found = measure({});
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->origin, "measured");
  EXPECT_GT(found->read_gb_s, 0);
  EXPECT_GT(found->write_gb_s, 0);
  EXPECT_GT(found->mixed_gb_s, 0);
  EXPECT_FALSE(found->samples.empty());
  EXPECT_EQ(file_->size().value(), kRegion);
  // What was chosen has been measured, and nothing smaller was as good.
  const auto best = [&](auto is_among, auto is_of) {
    double rate = 0;
    for (const auto& sample : found->samples) {
      if (is_among(sample) && is_of(sample)) rate = std::max(rate, sample.gb_per_s);
    }
    return rate;
  };
  const auto chosen = [&](const Sample& s) { return s.request_bytes == found->read_request_bytes; };
  const auto reads = [](const Sample& s) { return s.direction == Direction::read; };
  EXPECT_GT(best(chosen, reads), 0);
}

TEST_F(CalibrationTest, HonoursWhatIsConfigured) {
  const auto both = measure({.request_bytes = 128_KiB, .depth = 5});
  ASSERT_TRUE(both) << both.error().message;
  EXPECT_EQ(both->read_request_bytes, 128_KiB);
  EXPECT_EQ(both->write_request_bytes, 128_KiB);
  EXPECT_EQ(both->depth, 5u);
  EXPECT_EQ(both->origin, "configured");
  EXPECT_GT(both->read_gb_s, 0);

  const auto size = measure({.request_bytes = 1_MiB});
  ASSERT_TRUE(size);
  EXPECT_EQ(size->write_request_bytes, 1_MiB);
  EXPECT_THAT(size->origin, HasSubstr("request size configured"));

  const auto depth = measure({.depth = 3});
  ASSERT_TRUE(depth);
  EXPECT_EQ(depth->depth, 3u);
  EXPECT_THAT(depth->origin, HasSubstr("depth configured"));
  for (const auto& sample : depth->samples) EXPECT_EQ(sample.depth, 3u);
}

TEST_F(CalibrationTest, RefusesWhatCannotBe) {
  EXPECT_EQ(measure({.depth = 0}).error().status, ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(measure({.request_bytes = 0}).error().status, ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(measure({.request_bytes = 1_GiB}).error().status, ORLOP_INVALID_ARGUMENT);
  if (file_->access() == Access::direct) {
    EXPECT_THAT(measure({.request_bytes = 100'001}).error().message, HasSubstr("multiples of"));
  }
}

TEST_F(CalibrationTest, StopsAtItsLimits) {
  const auto begin_ns = now_ns();
  ASSERT_TRUE(measure({}, {0.05, 1ull << 40}));
  EXPECT_LT(seconds_of_ns(now_ns() - begin_ns), 5);  // generous: the machine may be busy
}

TEST_F(CalibrationTest, SaysWhatFailed) {
  std::filesystem::resize_file(folder_ / "store", 0);
  // The kind may be missing: the reason comes through.
  const auto found = calibrate(*file_, 0, QueueKind::threads, buffer_.span(), {}, {});
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().status, ORLOP_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace orlop::aio
