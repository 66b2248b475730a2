#include "swap/drive_settings.hpp"

#include <fstream>

#include <gmock/gmock.h>

#include "numa/arena.hpp"
#include "support.hpp"

namespace orlop::swap {
namespace {

using namespace testing;

// The cache in a directory of the test's own.
class DriveSettings : public ::testing::Test {
 protected:
  DriveSettings() { ::setenv("XDG_CACHE_HOME", cache_.path().c_str(), 1); }
  ~DriveSettings() override { ::unsetenv("XDG_CACHE_HOME"); }

  aio::File file(std::uint64_t bytes) {
    auto file = aio::File::open(directory_ / "store", aio::Existing::open).value();
    EXPECT_TRUE(file.preallocate(bytes));
    return file;
  }
  Result<aio::Calibration> settings(std::uint64_t bytes, const aio::CalibrationOverrides& overrides) {
    const auto store = file(bytes);
    auto arena = numa::Arena::create(topology(), 64_MiB).value();
    return drive_settings(store, bytes, aio::QueueKind::threads, arena.memory(), overrides);
  }

  TemporaryDirectory cache_;
  TemporaryDirectory directory_;
};

TEST_F(DriveSettings, AreTakenAsConfigured) {
  const auto found = settings(kSmallestMeasuredStore, {512 * 1024, 7}).value();
  EXPECT_EQ(found.origin, "configured");
  EXPECT_EQ(found.read_request_bytes, 512u * 1024);
  EXPECT_EQ(found.write_request_bytes, 512u * 1024);
  EXPECT_EQ(found.depth, 7u);
  EXPECT_TRUE(cache_.is_empty());
}

TEST_F(DriveSettings, OfASmallStoreAreNotMeasured) {
  const auto found = settings(1_MiB, {std::nullopt, 9}).value();
  EXPECT_THAT(found.origin, ::testing::StartsWith("default"));
  EXPECT_EQ(found.depth, 9u);
}

TEST_F(DriveSettings, AreMeasuredOnceAndKept) {
  const auto measured = settings(kSmallestMeasuredStore, {}).value();
  EXPECT_EQ(measured.origin, "measured");
  EXPECT_GT(measured.read_gb_s, 0);
  const auto kept = settings(kSmallestMeasuredStore, {}).value();
  EXPECT_THAT(kept.origin, ::testing::StartsWith("kept from"));
  EXPECT_EQ(kept.depth, measured.depth);
  EXPECT_EQ(kept.read_request_bytes, measured.read_request_bytes);
  const auto overridden = settings(kSmallestMeasuredStore, {std::nullopt, 3}).value();
  EXPECT_EQ(overridden.depth, 3u);
}

TEST_F(DriveSettings, RefuseRequestsThatNoDriveTakes) {
  for (const std::uint64_t bytes : {std::uint64_t{0}, std::uint64_t{1000}}) {
    const auto found = settings(1_MiB, {bytes, std::nullopt});
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().status, ORLOP_INVALID_CONFIG);
  }
  EXPECT_FALSE(settings(1_MiB, {std::nullopt, 0u}));
}

TEST_F(DriveSettings, HaveNoCacheWhereThereIsNoHome) {
  EXPECT_TRUE(calibration_directory(directory_.path()));
  std::ofstream(directory_ / "file") << "x";
  ::setenv("XDG_CACHE_HOME", (directory_ / "file").c_str(), 1);
  EXPECT_FALSE(calibration_directory(directory_.path()));
}

}  // namespace
}  // namespace orlop::swap
