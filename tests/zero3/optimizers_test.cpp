// Engines that train with another optimizer than Adam: their states, bytes, checkpoints, and the program's own.
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "zero3/training.hpp"

namespace orlop::zero3 {
namespace {

using ::testing::HasSubstr;
using namespace orlop::zero3::testing;

struct Kind {
  const char* type;
  Dtype dtype;
};

class OptimizerBits : public ::testing::TestWithParam<Kind> {
 protected:
  static std::string block() { return std::string(R"("optimizer": {"type": ")") + GetParam().type + "\"}"; }
  static std::string in_memory() { return "{" + block() + "}"; }
  static std::string on_nvme(const TemporaryDirectory& directory) {
    return nvme_config(directory.path(), ", " + block());
  }
  static std::unique_ptr<Engine> open(const std::string& config) {
    const auto params = small_model(GetParam().dtype);
    auto engine = testing::open(config, params);
    if (engine) write_initial(*engine, params);
    return engine;
  }
  static void run(Engine& engine, unsigned steps) { train(engine, small_model(GetParam().dtype), steps); }
};

TEST_P(OptimizerBits, AreTheSameWhereverTheStatesLive) {
  const TemporaryDirectory directory;
  const auto there = open(on_nvme(directory));
  const auto here = open(in_memory());
  run(*there, 4);
  run(*here, 4);
  EXPECT_EQ(there->digest().value(), here->digest().value());
}

TEST_P(OptimizerBits, AreTheSameAfterACheckpoint) {
  const TemporaryDirectory store;
  const TemporaryDirectory checkpoints;
  const std::string directory = (checkpoints.path() / "one").string();
  auto engine = open(on_nvme(store));
  run(*engine, 2);
  ASSERT_TRUE(save(*engine, directory));
  run(*engine, 2);
  const auto resumed = open(in_memory());
  ASSERT_TRUE(resumed->load_begin(directory, LoadWhat::everything));
  ASSERT_TRUE(resumed->checkpoint_wait(-1));
  run(*resumed, 2);
  EXPECT_EQ(resumed->digest().value(), engine->digest().value());
}

INSTANTIATE_TEST_SUITE_P(Kinds, OptimizerBits,
                         ::testing::Values(Kind{"Adagrad", Dtype::f32}, Kind{"Adagrad", Dtype::bf16},
                                           Kind{"Adagrad", Dtype::f16}, Kind{"Lion", Dtype::f32},
                                           Kind{"Lion", Dtype::bf16}, Kind{"Lion", Dtype::f16}),
                         [](const auto& instance) {
                           return std::string(instance.param.type) + "_" + std::string(name_of(instance.param.dtype));
                         });

TEST(Optimizers, MoveOnlyTheStatesTheyHave) {
  for (const char* type : {"Adagrad", "Lion"}) {
    const TemporaryDirectory directory;
    const auto params = small_model(Dtype::bf16);
    const std::string block = std::string(R"(, "optimizer": {"type": ")") + type + "\"}";
    auto engine = open_engine(nvme_config(directory.path(), block), params).value();
    train(*engine, params, 3);
    ASSERT_TRUE(engine->drain(-1));
    const EngineStats stats = engine->stats();
    const double per_step = static_cast<double>(stats.params) * 3;
    EXPECT_NEAR(static_cast<double>(stats.nvme_read_bytes) / per_step, 6, 0.1) << type;
    EXPECT_NEAR(static_cast<double>(stats.nvme_write_bytes) / per_step, 6, 0.1) << type;
  }
}

TEST(Optimizers, RefuseStatesTheyHaveNot) {
  const auto params = small_model(Dtype::f32);
  auto engine = open_engine(R"({"optimizer": {"type": "Lion"}})", params).value();
  float value = 0;
  const auto read = engine->read_plane(0, Plane::exp_avg_sq, {0, 1}, Dtype::f32, &value);
  ASSERT_FALSE(read);
  EXPECT_THAT(read.error().message, HasSubstr("the optimizer Lion has no EXP_AVG_SQ plane"));
  EXPECT_TRUE(engine->read_plane(0, Plane::exp_avg, {0, 1}, Dtype::f32, &value));
}

TEST(Optimizers, RefuseGroupsOfAnother) {
  auto engine = open_engine(R"({"optimizer": {"type": "Adagrad"}})", small_model(Dtype::f32)).value();
  auto hyper = engine->group(0).value();
  EXPECT_EQ(hyper.lr, 0.01);
  hyper.decoupled = true;
  EXPECT_THAT(engine->set_group(0, hyper).error().message, HasSubstr("Adagrad knows only 0"));
  hyper.decoupled = false;
  hyper.optimizer = kernels::Optimizer::lion;
  EXPECT_THAT(engine->set_group(0, hyper).error().message, HasSubstr("its optimizer is Lion, the engine's Adagrad"));
}

TEST(Optimizers, StartFromTheInitialAccumulatorValue) {
  const TemporaryDirectory directory;
  const std::string block =
      R"(, "optimizer": {"type": "Adagrad", "params": {"initial_accumulator_value": 0.5}})";
  for (const Dtype dtype : {Dtype::f32, Dtype::f16}) {
    const auto params = small_model(dtype);
    auto engine = open_engine(nvme_config(directory.path(), block), params).value();
    write_initial(*engine, params);
    std::vector<float> sums(params[2].numel);
    ASSERT_TRUE(engine->read_plane(2, Plane::exp_avg_sq, {0, sums.size()}, Dtype::f32, sums.data()));
    EXPECT_THAT(sums, ::testing::Each(0.5f));
    train(*engine, params, 1);
    ASSERT_TRUE(engine->read_plane(2, Plane::exp_avg_sq, {0, sums.size()}, Dtype::f32, sums.data()));
    EXPECT_THAT(sums, ::testing::Each(::testing::Ge(0.5f)));
    ASSERT_TRUE(engine->finish());
  }
}

TEST(Optimizers, RefuseACheckpointOfAnotherButTakeItsParameters) {
  const TemporaryDirectory checkpoints;
  const std::string directory = (checkpoints.path() / "one").string();
  const auto params = small_model(Dtype::bf16);
  auto adam = open_engine("{}", params).value();
  write_initial(*adam, params);
  train(*adam, params, 1);
  ASSERT_TRUE(save(*adam, directory));
  auto lion = open_engine(R"({"optimizer": {"type": "Lion"}})", params).value();
  const auto refused = lion->load_begin(directory, LoadWhat::everything);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("its optimizer states are Adam's, the engine trains with Lion"));
  ASSERT_TRUE(lion->load_begin(directory, LoadWhat::parameters));
  ASSERT_TRUE(lion->checkpoint_wait(-1));
  float saved = 0;
  float loaded = 1;
  ASSERT_TRUE(adam->read_plane(4, Plane::param, {7, 8}, Dtype::f32, &saved));
  ASSERT_TRUE(lion->read_plane(4, Plane::param, {7, 8}, Dtype::f32, &loaded));
  EXPECT_EQ(saved, loaded);
}

// ---- The program's own ----

constexpr const char* kExternal = R"({"optimizer": {"type": "External"}, "gradient_clipping": 0.5})";

TEST(ExternalOptimizer, LeavesParametersAloneAndGivesWhatAnUpdateNeeds) {
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16}) {
    const auto params = small_model(dtype);
    auto engine = open_engine(kExternal, params).value();
    write_initial(*engine, params);
    const std::uint64_t before = engine->digest().value();
    give_gradients(*engine, params, 1);
    ASSERT_TRUE(engine->backward_end());
    const StepReport report = step(*engine).value();
    EXPECT_EQ(report.step, 1u);
    EXPECT_DOUBLE_EQ(report.clip_factor, 0.5 / (report.grad_norm + 1e-6));
    EXPECT_EQ(engine->digest().value(), before);
    float gradient = 0;
    ASSERT_TRUE(engine->read_plane(1, Plane::grad, {3, 4}, Dtype::f32, &gradient));
    EXPECT_NE(gradient, 0);
    const float master = 0.1234567f;
    ASSERT_TRUE(engine->write_plane(1, Plane::master, {3, 4}, Dtype::f32, &master));
    float read = 0;
    ASSERT_TRUE(engine->read_plane(1, Plane::master, {3, 4}, Dtype::f32, &read));
    EXPECT_EQ(read, master);
    ASSERT_TRUE(engine->grad_discard());
    EXPECT_FALSE(engine->read_plane(1, Plane::grad, {3, 4}, Dtype::f32, &gradient));
  }
}

TEST(ExternalOptimizer, HasNoMomentsAndRefusesTheNextGradientUntilTheseAreDiscarded) {
  const auto params = small_model(Dtype::f32);
  auto engine = open_engine(kExternal, params).value();
  float value = 0;
  EXPECT_FALSE(engine->read_plane(0, Plane::exp_avg, {0, 1}, Dtype::f32, &value));
  train(*engine, params, 1);
  const std::vector<float> gradient(params[0].numel);
  EXPECT_EQ(engine->grad_ready(0, gradient.data(), Dtype::f32, {}).error().status, ORLOP_OUT_OF_ORDER);
  ASSERT_TRUE(engine->grad_discard());
  EXPECT_TRUE(engine->grad_ready(0, gradient.data(), Dtype::f32, {}));
}

TEST(ExternalOptimizer, ASkippedStepDiscardsItsGradientsItself) {
  const auto params = small_model(Dtype::f32);
  auto engine = open_engine(kExternal, params).value();
  give_gradients(*engine, params, 1);
  const std::vector<float> broken(params[1].numel, NAN);
  ASSERT_TRUE(engine->grad_ready(1, broken.data(), Dtype::f32, {}));
  ASSERT_TRUE(engine->backward_end());
  EXPECT_TRUE(step(*engine).value().skipped);
  give_gradients(*engine, params, 2);
  ASSERT_TRUE(engine->backward_end());
  EXPECT_FALSE(step(*engine).value().skipped);
}

TEST(ExternalOptimizer, KeepsItsMastersInAStoreAndInCheckpoints) {
  const TemporaryDirectory store;
  const TemporaryDirectory checkpoints;
  const std::string directory = (checkpoints.path() / "one").string();
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16}) {
    const auto params = small_model(dtype);
    const std::string config = nvme_config(store.path(), R"(, "optimizer": {"type": "External"})");
    auto engine = open_engine(config, params).value();
    write_initial(*engine, params);
    const auto masters = random_values(params[4].numel, 5, 1.0f);
    ASSERT_TRUE(engine->write_plane(4, Plane::master, {0, masters.size()}, Dtype::f32, masters.data()));
    ASSERT_TRUE(save(*engine, directory));
    auto other = open_engine(R"({"optimizer": {"type": "External"}})", params).value();
    ASSERT_TRUE(other->load_begin(directory, LoadWhat::everything));
    ASSERT_TRUE(other->checkpoint_wait(-1));
    EXPECT_EQ(other->digest().value(), engine->digest().value());
  }
}

}  // namespace
}  // namespace orlop::zero3
