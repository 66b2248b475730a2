#include <fstream>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "aio/calibration.hpp"
#include "scratch.hpp"

namespace orlop::aio {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

Calibration example(unsigned depth = 48) {
  Calibration calibration;
  calibration.read_request_bytes = 512_KiB;
  calibration.write_request_bytes = 2_MiB;
  calibration.depth = depth;
  calibration.mixing = Mixing::phased;
  calibration.read_gb_s = 2.5;
  calibration.write_gb_s = 5.25;
  calibration.mixed_gb_s = 3.125;
  calibration.origin = "measured";
  calibration.samples = {{Direction::read, 512_KiB, 64, 2.5}, {Direction::write, 2_MiB, 8, 5.25}};
  return calibration;
}

class KeptCalibration : public testing::Test {
 protected:
  [[nodiscard]] std::string path() const { return folder_ / "calibration.json"; }
  void write(const std::string& text) const { std::ofstream(path()) << text; }
  [[nodiscard]] nlohmann::json read() const { return nlohmann::json::parse(std::ifstream(path())); }

  ScratchFolder folder_;
};

TEST_F(KeptCalibration, ComesBackAsItWas) {
  EXPECT_FALSE(load_calibration(folder_.path(), QueueKind::uring));
  ASSERT_TRUE(keep_calibration(folder_.path(), QueueKind::uring, example()));
  const auto loaded = load_calibration(folder_.path(), QueueKind::uring);
  ASSERT_TRUE(loaded);
  const auto expected = example();
  EXPECT_EQ(loaded->read_request_bytes, expected.read_request_bytes);
  EXPECT_EQ(loaded->write_request_bytes, expected.write_request_bytes);
  EXPECT_EQ(loaded->depth, expected.depth);
  EXPECT_EQ(loaded->mixing, expected.mixing);
  EXPECT_EQ(loaded->read_gb_s, expected.read_gb_s);
  EXPECT_EQ(loaded->write_gb_s, expected.write_gb_s);
  EXPECT_EQ(loaded->mixed_gb_s, expected.mixed_gb_s);
  EXPECT_THAT(loaded->origin, StartsWith("kept from 2"));
  ASSERT_EQ(loaded->samples.size(), 2u);
  EXPECT_EQ(loaded->samples[1].direction, Direction::write);
  EXPECT_EQ(loaded->samples[1].depth, 8u);
}

TEST_F(KeptCalibration, IsKeptPerQueueAndReplaced) {
  ASSERT_TRUE(keep_calibration(folder_.path(), QueueKind::uring, example(1)));
  ASSERT_TRUE(keep_calibration(folder_.path(), QueueKind::threads, example(2)));
  ASSERT_TRUE(keep_calibration(folder_.path(), QueueKind::uring, example(3)));
  EXPECT_EQ(load_calibration(folder_.path(), QueueKind::uring)->depth, 3u);
  EXPECT_EQ(load_calibration(folder_.path(), QueueKind::threads)->depth, 2u);
  EXPECT_FALSE(load_calibration(folder_.path(), QueueKind::aio));
  EXPECT_EQ(read()["entries"].size(), 2u);
  // Nothing temporary is left beside it.
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_.path()), {}), 1);
}

TEST_F(KeptCalibration, OfAnotherDeviceFilesystemOrVersionIsNotUsed) {
  for (const char* name : {"device", "filesystem", "version"}) {
    ASSERT_TRUE(keep_calibration(folder_.path(), QueueKind::uring, example()));
    auto document = read();
    document["entries"][0][name] = "another";
    write(document.dump());
    EXPECT_FALSE(load_calibration(folder_.path(), QueueKind::uring)) << name;
  }
}

TEST_F(KeptCalibration, DamagedIsMeasuredAnewAndSaysSo) {
  for (const char* text : {"", "{", "[1, 2]", "{\"entries\": 3}", "\xff\xfe"}) {
    write(text);
    const LogCapture log;
    EXPECT_FALSE(load_calibration(folder_.path(), QueueKind::uring));
    EXPECT_THAT(log.warnings(), ElementsAre(AllOf(HasSubstr(path()), HasSubstr("measured anew")))) << text;
  }
  ASSERT_TRUE(keep_calibration(folder_.path(), QueueKind::uring, example()));  // replaces what is damaged
  EXPECT_TRUE(load_calibration(folder_.path(), QueueKind::uring));
}

TEST_F(KeptCalibration, EntriesThatMakeNoSenseAreMeasuredAnew) {
  const auto damage = [&](const char* name, const nlohmann::json& value) {
    ASSERT_TRUE(keep_calibration(folder_.path(), QueueKind::uring, example()));
    auto document = read();
    document["entries"][0][name] = value;
    write(document.dump());
    const LogCapture log;
    EXPECT_FALSE(load_calibration(folder_.path(), QueueKind::uring)) << name;
    EXPECT_EQ(log.warnings().size(), 1u) << name;
  };
  damage("depth", "many");
  damage("depth", 0);
  damage("depth", -1);
  damage("read_request_bytes", 7);
  damage("write_request_bytes", 1ull << 50);
  damage("mixing", 3);
  damage("samples", {1, 2});
  damage("time", nullptr);
}

TEST_F(KeptCalibration, SaysWhenItCannotBeKept) {
  const auto refused = keep_calibration(folder_ / "nowhere", QueueKind::uring, example());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().status, ORLOP_NOT_FOUND);
  EXPECT_THAT(refused.error().message, HasSubstr(folder_ / "nowhere"));
}

}  // namespace
}  // namespace orlop::aio
