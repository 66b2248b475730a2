#include "zero3/loss_scaler.hpp"

#include <string_view>
#include <vector>

#include <gmock/gmock.h>

namespace orlop::zero3 {
namespace {

using testing::ElementsAre;

constexpr Fp16Settings kSmall = {.initial_scale_power = 4, .loss_scale_window = 2, .hysteresis = 2};

// The scale before each step of a script, and after the last: '.' is a good step, 'x' an overflow.
std::vector<double> scales(const Fp16Settings& settings, std::string_view script) {
  LossScaler scaler(settings);
  std::vector<double> seen = {scaler.scale()};
  for (const char step : script) {
    step == 'x' ? scaler.note_overflow() : scaler.note_good_step();
    seen.push_back(scaler.scale());
  }
  return seen;
}

TEST(LossScaler, IsOneWithoutFp16) {
  LossScaler scaler(std::nullopt);
  scaler.note_overflow();
  for (int i = 0; i < 2000; ++i) scaler.note_good_step();
  EXPECT_EQ(scaler.scale(), 1);
  EXPECT_FALSE(scaler.is_dynamic());
  EXPECT_FALSE(scaler.is_exhausted());
}

TEST(LossScaler, AFixedScaleStays) {
  EXPECT_THAT(scales({.loss_scale = 138, .loss_scale_window = 1, .hysteresis = 1}, "xx.."),
              ElementsAre(138, 138, 138, 138, 138));
}

TEST(LossScaler, StartsAtTheGivenPower) { EXPECT_EQ(LossScaler(Fp16Settings{}).scale(), 65536); }

TEST(LossScaler, DoublesWithEveryWindowOfGoodStepsAfterTheFirst) {
  EXPECT_THAT(scales(kSmall, "....."), ElementsAre(16, 16, 16, 32, 32, 64));
}

TEST(LossScaler, TheFirstOverflowUsesUpHysteresisTheNextHalves) {
  EXPECT_THAT(scales(kSmall, "xxx"), ElementsAre(16, 16, 8, 4));
}

TEST(LossScaler, AnOverflowBeginsTheWindowAnew) {
  EXPECT_THAT(scales(kSmall, ".x..."), ElementsAre(16, 16, 16, 16, 16, 32));
}

TEST(LossScaler, ADoublingRestoresHysteresis) {
  EXPECT_THAT(scales(kSmall, "x...xx"), ElementsAre(16, 16, 16, 16, 32, 32, 16));
}

TEST(LossScaler, AGoodStepAloneDoesNot) { EXPECT_THAT(scales(kSmall, "x.x"), ElementsAre(16, 16, 16, 8)); }

TEST(LossScaler, UnlessHysteresisIsConsecutive) {
  Fp16Settings settings = kSmall;
  settings.consecutive_hysteresis = true;
  EXPECT_THAT(scales(settings, "x.xx"), ElementsAre(16, 16, 16, 16, 8));
}

TEST(LossScaler, StopsAtTheLeastScaleAndSaysSo) {
  LossScaler scaler(Fp16Settings{.initial_scale_power = 1, .hysteresis = 1});
  EXPECT_FALSE(scaler.is_exhausted());
  scaler.note_overflow();
  EXPECT_EQ(scaler.scale(), 1);
  EXPECT_TRUE(scaler.is_exhausted());
  scaler.note_overflow();
  EXPECT_EQ(scaler.scale(), 1);
}

TEST(LossScaler, HysteresisOfZeroIsThatOfOne) {
  EXPECT_THAT(scales({.initial_scale_power = 4, .hysteresis = 0}, "x"), ElementsAre(16, 8));
}

}  // namespace
}  // namespace orlop::zero3
