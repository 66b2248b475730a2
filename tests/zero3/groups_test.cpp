#include "zero3/groups.hpp"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace orlop::zero3 {
namespace {

constexpr kernels::HyperParams kHyper{.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0,
                                    .decoupled = true, .bias_correction = true};

TEST(Groups, StartWithTheConfiguredValues) {
  const Groups groups(kHyper);
  EXPECT_EQ(groups.get(0)->lr, 1e-3);
  EXPECT_EQ(groups.get(1023)->lr, 1e-3);
}

TEST(Groups, SettingOneLeavesTheOthers) {
  Groups groups(kHyper);
  auto hyper = kHyper;
  hyper.lr = 0;
  ASSERT_TRUE(groups.set(2, hyper));
  EXPECT_EQ(groups.get(1)->lr, 1e-3);
  EXPECT_EQ(groups.get(2)->lr, 0);
  EXPECT_EQ(groups.get(3)->lr, 1e-3);
  const auto constants = groups.constants(4, 1, 1);
  EXPECT_NE(constants[1].step_size, 0.f);
  EXPECT_EQ(constants[2].step_size, 0.f);
}

TEST(Groups, RefuseValuesOutOfRange) {
  Groups groups(kHyper);
  const auto refuses = [&](auto change) {
    auto hyper = kHyper;
    change(hyper);
    return !groups.set(0, hyper);
  };
  EXPECT_TRUE(refuses([](auto& h) { h.lr = -1; }));
  EXPECT_TRUE(refuses([](auto& h) { h.lr = std::numeric_limits<double>::quiet_NaN(); }));
  EXPECT_TRUE(refuses([](auto& h) { h.lr = INFINITY; }));
  EXPECT_TRUE(refuses([](auto& h) { h.beta1 = 1; }));
  EXPECT_TRUE(refuses([](auto& h) { h.beta2 = 1.5; }));
  EXPECT_TRUE(refuses([](auto& h) { h.eps = -1e-8; }));
  EXPECT_TRUE(refuses([](auto& h) { h.weight_decay = -0.1; }));
  EXPECT_FALSE(groups.set(-1, kHyper));
  EXPECT_FALSE(groups.set(1024, kHyper));
}

}  // namespace
}  // namespace orlop::zero3
