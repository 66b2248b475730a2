// orlop.hpp: ownership and exceptions.
#include "orlop/orlop.hpp"

#include <array>
#include <utility>

#include <gtest/gtest.h>

namespace {

TEST(Skin, TrainsAndReportsThroughTheHeaderAlone) {
  orlop::Engine engine(R"({"gradient_clipping": 1.0})");
  const std::uint32_t id = engine.register_param("w", ORLOP_BF16, 100);
  engine.commit();
  const std::array<float, 100> gradient = [] {
    std::array<float, 100> ones;
    ones.fill(1);
    return ones;
  }();
  engine.grad_ready(id, gradient.data(), ORLOP_F32);
  EXPECT_TRUE(engine.backward_end());
  const orlop_step_report report = engine.step();
  EXPECT_DOUBLE_EQ(report.grad_norm, 10);
  EXPECT_NEAR(report.clip_factor, 0.1, 1e-6);
  EXPECT_EQ(engine.stats().steps, 1u);
  EXPECT_NE(engine.digest(), 0u);
  engine.close();
}

TEST(Skin, ThrowsTheSentence) {
  try {
    orlop::Engine engine(R"({"zero_optimization": {"stage": 7}})");
    FAIL() << "stage 7 was accepted";
  } catch (const orlop::Exception& e) {
    EXPECT_EQ(e.status(), ORLOP_INVALID_CONFIG);
    EXPECT_NE(std::string(e.what()).find("zero_optimization.stage"), std::string::npos);
  }
}

TEST(Skin, MovesOwnership) {
  orlop::Engine first("{}");
  orlop_engine* const handle = first.get();
  const orlop::Engine second = std::move(first);
  EXPECT_EQ(second.get(), handle);
  EXPECT_EQ(first.get(), nullptr);  // NOLINT: the moved-from state is what is tested
}

}  // namespace
