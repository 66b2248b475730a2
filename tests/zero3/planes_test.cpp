#include "zero3/planes.hpp"

#include <cmath>

#include <gtest/gtest.h>

#include "zero3/training.hpp"

namespace orlop::zero3 {
namespace {

using namespace orlop::zero3::testing;

class PlanesOf : public ::testing::TestWithParam<std::tuple<Dtype, bool>> {
 protected:
  void SetUp() override {
    const auto [dtype, on_nvme] = GetParam();
    params_ = small_model(dtype);
    auto engine = open_engine(on_nvme ? nvme_config(directory_.path()) : "{}", params_);
    ASSERT_TRUE(engine) << engine.error().message;
    engine_ = std::move(*engine);
  }
  std::vector<float> read(std::uint32_t id, Plane plane, Range range) {
    std::vector<float> values(range.size());
    const auto done = engine_->read_plane(id, plane, range, Dtype::f32, values.data());
    EXPECT_TRUE(done) << done.error().message;
    return values;
  }
  void write(std::uint32_t id, Plane plane, std::uint64_t first, const std::vector<float>& values) {
    const auto done = engine_->write_plane(id, plane, {first, first + values.size()}, Dtype::f32, values.data());
    ASSERT_TRUE(done) << done.error().message;
  }

  TemporaryDirectory directory_;
  std::vector<ParamSpec> params_;
  std::unique_ptr<Engine> engine_;
};

TEST_P(PlanesOf, AMasterWrittenIsReadBackExactlyAndRoundsToTheParameter) {
  const auto values = random_values(500'000, 7, 1.f);
  write(0, Plane::master, 1'700'000, values);  // spans two blocks
  EXPECT_EQ(read(0, Plane::master, {1'700'000, 2'200'000}), values);
  const auto params = read(0, Plane::param, {1'700'000, 2'200'000});
  for (std::size_t i = 0; i < values.size(); ++i) ASSERT_NEAR(params[i], values[i], std::abs(values[i]) / 128 + 1e-7);
  EXPECT_EQ(read(0, Plane::master, {1'699'999, 1'700'000})[0], 0.f) << "the neighbour was touched";
}

TEST_P(PlanesOf, WritingTheParameterAfterAStepMakesItTheMaster) {
  train(*engine_, params_, 1);
  const std::vector<float> values = {0.5f, -2.f, 8.f};
  write(2, Plane::param, 100, values);
  EXPECT_EQ(read(2, Plane::param, {100, 103}), values);
  EXPECT_EQ(read(2, Plane::master, {100, 103}), values);
}

TEST_P(PlanesOf, AMasterBeforeTheFirstStepIsTheParameter) {
  write_initial(*engine_, params_);
  EXPECT_EQ(read(4, Plane::master, {0, 2'000'003}), read(4, Plane::param, {0, 2'000'003}));
}

TEST_P(PlanesOf, MomentsWrittenAreReadBack) {
  const auto values = random_values(33, 3, 1.f);
  write(3, Plane::exp_avg, 0, values);
  EXPECT_EQ(read(3, Plane::exp_avg, {0, 33}), values);
  EXPECT_EQ(read(3, Plane::exp_avg_sq, {0, 33}), std::vector<float>(33, 0.f));
}

TEST_P(PlanesOf, GradientsAreThoseThatWereTaken) {
  const auto gradient = random_values(33, 3, 1.f);
  ASSERT_TRUE(engine_->grad_ready(3, gradient.data(), Dtype::f32, {}));
  const auto stored = read(3, Plane::grad, {0, 33});
  for (std::size_t i = 0; i < 33; ++i) EXPECT_NEAR(stored[i], gradient[i], std::abs(gradient[i]) / 128);
}

TEST_P(PlanesOf, AGradientWrittenIsTheOneThatAStepUses) {
  const std::vector<float> values(33, 0.5f);
  EXPECT_EQ(engine_->write_plane(3, Plane::grad, {0, 33}, Dtype::f32, values.data()).error().status, ORLOP_OUT_OF_ORDER)
      << "of a micro-batch that has not begun";
  const auto gradient = random_values(33, 3, 1.f);
  ASSERT_TRUE(engine_->grad_ready(3, gradient.data(), Dtype::f32, {}));
  ASSERT_TRUE(engine_->backward_end());
  write(3, Plane::grad, 0, values);
  write(2, Plane::grad, 5, {2.f});  // took no part in it
  EXPECT_EQ(read(3, Plane::grad, {0, 33}), values);
  EXPECT_EQ(read(2, Plane::grad, {4, 7}), (std::vector<float>{0.f, 2.f, 0.f}));
  ASSERT_TRUE(engine_->step_begin(1.0));
  const auto report = engine_->step_wait(-1);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->grad_norm, std::sqrt(33 * 0.25 + 4));
}

INSTANTIATE_TEST_SUITE_P(DtypesAndTiers, PlanesOf,
                         ::testing::Combine(::testing::Values(Dtype::f32, Dtype::bf16, Dtype::f16), ::testing::Bool()),
                         [](const auto& instance) {
                           return std::string(name_of(std::get<0>(instance.param))) +
                                  (std::get<1>(instance.param) ? "_nvme" : "_host");
                         });

}  // namespace
}  // namespace orlop::zero3
