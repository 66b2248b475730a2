#include "zero3/engine.hpp"

#include <cmath>
#include <fstream>
#include <map>
#include <limits>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/log.hpp"
#include "rounds.hpp"
#include "zero3/training.hpp"

namespace orlop::zero3 {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using namespace orlop::zero3::testing;

std::uint64_t digest_after(const std::string& config, Dtype dtype, unsigned steps, unsigned micro_batches = 1) {
  const auto params = small_model(dtype);
  auto engine = open_engine(config, params);
  EXPECT_TRUE(engine) << engine.error().message;
  if (!engine) return 0;
  write_initial(**engine, params);
  train(**engine, params, steps, micro_batches);
  const auto digest = (*engine)->digest();
  EXPECT_TRUE(digest);
  EXPECT_TRUE((*engine)->finish());
  return digest.value_or(0);
}

class EngineBits : public ::testing::TestWithParam<Dtype> {};

TEST_P(EngineBits, AreTheSameWhereverTheStatesLive) {
  constexpr unsigned kSteps = rounds(4, 2);
  const std::uint64_t in_memory = digest_after("{}", GetParam(), kSteps);
  for (const char* queue : {"uring", "aio", "threads"}) {
    const TemporaryDirectory directory;
    const std::string more = std::string(R"(, "orlop": {"queue": ")") + queue + "\"}";
    EXPECT_EQ(digest_after(nvme_config(directory.path(), more), GetParam(), kSteps), in_memory) << queue;
    EXPECT_FALSE(directory.holds_files()) << "after a clean end";
  }
}

TEST_P(EngineBits, DoNotDependOnThreads) {
  const std::uint64_t one = digest_after(R"({"orlop": {"threads": 1}})", GetParam(), 2);
  EXPECT_EQ(digest_after(R"({"orlop": {"threads": 2}})", GetParam(), 2), one);
  EXPECT_EQ(digest_after(R"({"orlop": {"threads": 3}})", GetParam(), 2), one);
}

TEST_P(EngineBits, AreTheSameWithAccumulation) {
  const TemporaryDirectory directory;
  const std::string more = R"(, "gradient_accumulation_steps": 3, "train_micro_batch_size_per_gpu": 1)";
  EXPECT_EQ(digest_after(nvme_config(directory.path(), more), GetParam(), 2, 3),
            digest_after(R"({"gradient_accumulation_steps": 3, "train_micro_batch_size_per_gpu": 1})", GetParam(), 2, 3));
}

TEST_P(EngineBits, ChangeWithEveryStep) {
  EXPECT_NE(digest_after("{}", GetParam(), 1), digest_after("{}", GetParam(), 2));
}

TEST_P(EngineBits, AreTheSameWhenTheProgramCounts) {
  const auto params = small_model(GetParam());
  auto engine = open(R"({"managed_gradient_accumulation": false})", params);
  write_initial(*engine, params);
  EXPECT_FALSE(engine->step_begin(1)) << "there is nothing to update with";
  train(*engine, params, 2, 3);
  EXPECT_EQ(engine->digest().value(),
            digest_after(R"({"gradient_accumulation_steps": 3, "train_micro_batch_size_per_gpu": 1})", GetParam(), 2, 3));
}

INSTANTIATE_TEST_SUITE_P(Dtypes, EngineBits, ::testing::Values(Dtype::f32, Dtype::bf16, Dtype::f16),
                         [](const auto& instance) { return std::string(name_of(instance.param)); });

TEST(Engine, MovesTenBytesPerParameterEachWayForBf16) {
  const TemporaryDirectory directory;
  const auto params = small_model(Dtype::bf16);
  auto engine = open_engine(nvme_config(directory.path()), params).value();
  train(*engine, params, 3);
  ASSERT_TRUE(engine->drain(-1));
  const EngineStats stats = engine->stats();
  const double per_step = static_cast<double>(stats.params) * 3;
  EXPECT_NEAR(static_cast<double>(stats.nvme_read_bytes) / per_step, 10, 0.1);
  EXPECT_NEAR(static_cast<double>(stats.nvme_write_bytes) / per_step, 10, 0.1);
}

TEST(Engine, GroupsAreUpdatedWithTheirOwnValues) {
  const auto params = small_model(Dtype::f32);
  auto engine = open_engine(R"({"gradient_clipping": 0})", params).value();
  auto hyper = engine->group(1).value();
  hyper.lr = 0;
  ASSERT_TRUE(engine->set_group(1, hyper));
  write_initial(*engine, params);
  std::vector<float> norm_before(1000);
  std::vector<float> norm_after(1000);
  float up_before = 0;
  float up_after = 0;
  ASSERT_TRUE(engine->read_plane(1, Plane::param, {0, 1000}, Dtype::f32, norm_before.data()));
  ASSERT_TRUE(engine->read_plane(2, Plane::param, {0, 1}, Dtype::f32, &up_before));
  train(*engine, params, 1);
  ASSERT_TRUE(engine->read_plane(1, Plane::param, {0, 1000}, Dtype::f32, norm_after.data()));
  ASSERT_TRUE(engine->read_plane(2, Plane::param, {0, 1}, Dtype::f32, &up_after));
  EXPECT_EQ(norm_before, norm_after);
  EXPECT_NE(up_before, up_after);
}

TEST(Engine, ClipsByTheGlobalNorm) {
  const auto params = small_model(Dtype::f32);
  auto engine = open_engine(R"({"gradient_clipping": 0.5})", params).value();
  give_gradients(*engine, params, 3);
  ASSERT_TRUE(engine->backward_end());
  const StepReport report = step(*engine).value();
  ASSERT_GT(report.grad_norm, 0.5);
  EXPECT_DOUBLE_EQ(report.clip_factor, 0.5 / (report.grad_norm + 1e-6));
}

TEST(Engine, ALossScaleIsTakenOutExactlyWhenItIsAPowerOfTwo) {
  const auto params = small_model(Dtype::f32);
  std::uint64_t digests[2];
  for (const int scaled : {0, 1}) {
    auto engine = open_engine("{}", params).value();
    const float scale = scaled ? 1024.f : 1.f;
    for (std::uint32_t id = 0; id < params.size(); ++id) {
      auto gradient = random_values(params[id].numel, id, 0.01f);
      for (float& value : gradient) value *= scale;
      ASSERT_TRUE(engine->grad_ready(id, gradient.data(), Dtype::f32, {}));
    }
    ASSERT_TRUE(engine->backward_end());
    ASSERT_TRUE(engine->step_begin(scale));
    ASSERT_TRUE(engine->step_wait(-1));
    digests[scaled] = engine->digest().value();
  }
  EXPECT_EQ(digests[0], digests[1]);
}

TEST(Engine, ANonFiniteGradientChangesNothingOnNvmeAndTheNextStepGoesOn) {
  const TemporaryDirectory directory;
  const auto params = small_model(Dtype::bf16);
  auto engine = open_engine(nvme_config(directory.path()), params).value();
  train(*engine, params, 1);
  const auto before = engine->digest().value();
  give_gradients(*engine, params, 8);
  const float bad = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> gradient(33, bad);
  ASSERT_TRUE(engine->grad_ready(3, gradient.data(), Dtype::f32, {}));
  ASSERT_TRUE(engine->backward_end());
  const StepReport report = step(*engine).value();
  EXPECT_TRUE(report.skipped);
  EXPECT_EQ(report.step, 1u);
  EXPECT_EQ(engine->digest().value(), before);
  train(*engine, params, 1);
  EXPECT_EQ(engine->stats().steps, 2u);
  EXPECT_EQ(engine->stats().skipped_steps, 1u);
}

TEST(Engine, ANonFiniteGradientStopsWhenThePolicySaysSo) {
  const auto params = small_model(Dtype::f32);
  auto engine = open_engine(R"({"orlop": {"non_finite": "stop"}})", params).value();
  std::vector<float> gradient(33, INFINITY);
  ASSERT_TRUE(engine->grad_ready(3, gradient.data(), Dtype::f32, {}));
  ASSERT_TRUE(engine->backward_end());
  const auto report = step(*engine);
  ASSERT_FALSE(report);
  EXPECT_THAT(report.error().message, HasSubstr("norm.bias"));
  EXPECT_EQ(engine->grad_discard().error().message, report.error().message) << "it has stopped";
}

TEST(Engine, ARelativePathIsThatOfTheDirectoryAtTheStart) {
  const TemporaryDirectory directory;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(directory.path());
  const auto params = small_model(Dtype::bf16);
  {
    auto engine = open_engine(nvme_config("."), params).value();
    std::filesystem::current_path(before);
    train(*engine, params, 2);
  }
  EXPECT_FALSE(directory.holds_files());
}

TEST(Engine, AModelWithoutTrainableParametersNeedsNoStore) {
  const TemporaryDirectory directory;
  auto engine = open_engine(nvme_config(directory.path()), {{"frozen", Dtype::f32, 100, 0, 0, Training::frozen}});
  ASSERT_TRUE(engine) << engine.error().message;
  EXPECT_FALSE(directory.holds_files());
}

TEST(Engine, AFlippedByteStopsTheStepAndNamesTheFile) {
  const TemporaryDirectory directory;
  const auto params = small_model(Dtype::bf16);
  auto engine = open_engine(nvme_config(directory.path(), R"(, "orlop": {"run_id": "flip"})"), params).value();
  train(*engine, params, 2);
  ASSERT_TRUE(engine->drain(-1));
  const auto store = directory.path() / "orlop" / "flip" / "rank0.store";
  ASSERT_TRUE(std::filesystem::exists(store));
  {
    std::fstream file(store, std::ios::in | std::ios::out | std::ios::binary);
    const auto size = std::filesystem::file_size(store);
    for (std::uint64_t at = 1 << 20; at < size; at += 1 << 20) {  // whichever extents are in use
      file.seekp(static_cast<std::streamoff>(at));
      file.put('\x5a');
    }
  }
  give_gradients(*engine, params, 9);
  ASSERT_TRUE(engine->backward_end());
  const auto report = step(*engine);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().status, ORLOP_CORRUPT);
  EXPECT_THAT(report.error().message, HasSubstr("rank0.store"));
  EXPECT_EQ(engine->backward_end().error().status, ORLOP_CORRUPT) << "an engine that has stopped stays stopped";
}

TEST(Engine, NoParameterIsComputedFromCorruptStates) {
  const TemporaryDirectory directory;
  const auto params = small_model(Dtype::f32);
  auto engine = open_engine(nvme_config(directory.path(), R"(, "orlop": {"run_id": "flip"})"), params).value();
  write_initial(*engine, params);
  train(*engine, params, 2);
  ASSERT_TRUE(engine->drain(-1));
  const auto* const values = static_cast<const float*>(engine->address(0).value());
  const std::vector<float> before(values, values + params[0].numel);
  {
    const auto store = directory.path() / "orlop" / "flip" / "rank0.store";
    std::fstream file(store, std::ios::in | std::ios::out | std::ios::binary);
    const std::vector<char> garbage(8192, '\x47');  // moments of 5e4: updates would be far off
    const auto size = std::filesystem::file_size(store);
    for (std::uint64_t at = 1 << 18; at + garbage.size() < size; at += 1 << 18) {
      file.seekp(static_cast<std::streamoff>(at));
      file.write(garbage.data(), static_cast<std::streamsize>(garbage.size()));
    }
  }
  give_gradients(*engine, params, 9);
  ASSERT_TRUE(engine->backward_end());
  ASSERT_EQ(step(*engine).error().status, ORLOP_CORRUPT);
  for (std::size_t i = 0; i < before.size(); ++i) ASSERT_NEAR(values[i], before[i], 0.01) << i;
}

TEST(Engine, ASecondEngineOnTheSameRunIsRefused) {
  const TemporaryDirectory directory;
  const auto config = nvme_config(directory.path(), R"(, "orlop": {"run_id": "one"})");
  const auto params = small_model(Dtype::bf16);
  auto first = open_engine(config, params);
  ASSERT_TRUE(first) << first.error().message;
  const auto second = open_engine(config, params);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().status, ORLOP_BUSY);
}

TEST(Engine, ABudgetThatIsTooSmallIsRefusedBeforeAnythingIsCreated) {
  const TemporaryDirectory directory;
  const auto config = nvme_config(directory.path(), R"(, "orlop": {"memory": {"host": "1M"}})");
  const auto refused = open_engine(config, small_model(Dtype::bf16));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().status, ORLOP_NO_MEMORY);
  EXPECT_FALSE(directory.holds_files());
}

TEST(Engine, ACancelledStepEndsSoonAndLeavesNoFiles) {
  const TemporaryDirectory directory;
  const auto params = small_model(Dtype::bf16);
  {
    auto engine = open_engine(nvme_config(directory.path()), params).value();
    give_gradients(*engine, params, 1);
    ASSERT_TRUE(engine->backward_end());
    engine->cancel();
    const auto report = step(*engine);
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().status, ORLOP_CANCELLED);
  }
  EXPECT_FALSE(directory.holds_files());
}

constexpr const char* kFp16 = R"({"fp16": {"enabled": true, "initial_scale_power": 4, "loss_scale_window": 2,
  "hysteresis": 1, "min_loss_scale": 8}, "gradient_clipping": 0})";

// One step with gradients that are multiplied as losses would be; with one that is not finite if asked.
Result<StepReport> scaled_step(Engine& engine, const std::vector<ParamSpec>& params, unsigned seed, bool overflow) {
  const auto scale = static_cast<float>(engine.loss_scale());
  for (std::uint32_t id = 0; id < params.size(); ++id) {
    auto gradient = random_values(params[id].numel, seed * 100 + id, 0.01f);
    for (float& value : gradient) value *= scale;
    if (overflow && id == 1) gradient.back() = INFINITY;
    TRY(engine.grad_ready(id, gradient.data(), Dtype::f32, {}));
  }
  TRY(engine.backward_end());
  TRY(engine.step_begin(std::nullopt));
  return engine.step_wait(-1);
}

TEST(Engine, AppliesWhatIsNotFiniteWhereThatIsAsked) {
  const auto params = small_model(Dtype::bf16);
  for (const char* config : {R"({"orlop": {"non_finite": "apply"}})",
                             R"({"bf16": {"enabled": true, "check_grad_overflow": false}})"}) {
    auto engine = open(config, params);
    give_gradients(*engine, params, 1);
    const std::vector<float> gradient(33, INFINITY);
    ASSERT_TRUE(engine->grad_ready(3, gradient.data(), Dtype::f32, {}));
    ASSERT_TRUE(engine->backward_end());
    const StepReport report = step(*engine).value();
    EXPECT_FALSE(report.skipped);
    EXPECT_EQ(report.step, 1u);
    float value = 0;
    ASSERT_TRUE(engine->read_plane(3, Plane::param, {0, 1}, Dtype::f32, &value));
    EXPECT_FALSE(std::isfinite(value));
  }
}

TEST(Engine, ADynamicLossScaleFallsWithOverflowsAndRisesWithGoodSteps) {
  const auto params = small_model(Dtype::f32);
  auto engine = open_engine(kFp16, params).value();
  std::vector<double> used;
  std::vector<std::uint64_t> good_steps;
  for (const bool overflow : {false, false, false, true, false, false, false, true, true}) {
    const auto report = scaled_step(*engine, params, 1, overflow);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->skipped, overflow);
    used.push_back(report->loss_scale);
    good_steps.push_back(engine->stats().loss_scale_good_steps);
  }
  EXPECT_EQ(good_steps, (std::vector<std::uint64_t>{1, 2, 3, 0, 1, 2, 3, 0, 0}));
  EXPECT_EQ(engine->stats().loss_scale_overflows_left, 1u);
  EXPECT_EQ(used, (std::vector<double>{16, 16, 16, 32, 16, 16, 16, 32, 16}));
  EXPECT_EQ(engine->loss_scale(), 8);
  EXPECT_EQ(engine->stats().steps, 6u);
  EXPECT_EQ(engine->stats().skipped_steps, 3u);
}

TEST(Engine, AnOverflowAtTheLeastLossScaleIsAnError) {
  const auto params = small_model(Dtype::f32);
  auto engine = open_engine(kFp16, params).value();
  ASSERT_TRUE(scaled_step(*engine, params, 1, true));
  const auto report = scaled_step(*engine, params, 1, true);
  ASSERT_FALSE(report);
  EXPECT_THAT(report.error().message, HasSubstr("\"norm.weight\": it is not finite at the least loss scale (8)"));
}

TEST(Engine, TheResultDoesNotDependOnTheLossScale) {
  const auto params = small_model(Dtype::f16);
  std::vector<std::uint64_t> digests;
  for (const char* scale : {"1", "1024"}) {
    auto engine = open_engine(fmt::format(R"({{"fp16": {{"enabled": true, "loss_scale": {}}}}})", scale), params).value();
    write_initial(*engine, params);
    const float factor = static_cast<float>(engine->loss_scale());
    for (std::uint32_t id = 0; id < params.size(); ++id) {
      auto gradient = random_values(params[id].numel, 7 + id, 0.01f);
      for (float& value : gradient) value = std::ldexp(std::round(std::ldexp(value, 14)), -14) * factor;  // exact in fp16
      ASSERT_TRUE(engine->grad_ready(id, gradient.data(), Dtype::f32, {}));
    }
    ASSERT_TRUE(engine->backward_end());
    ASSERT_TRUE(engine->step_begin(std::nullopt));
    ASSERT_TRUE(engine->step_wait(-1));
    digests.push_back(engine->digest().value());
  }
  EXPECT_EQ(digests[0], digests[1]);
}

TEST(Engine, StatsMayBeAskedDuringAStep) {
  const auto params = small_model(Dtype::f32);
  auto engine = open_engine("{}", params).value();
  give_gradients(*engine, params, 1);
  ASSERT_TRUE(engine->backward_end());
  ASSERT_TRUE(engine->step_begin(1));
  std::thread asker([&] {
    for (int i = 0; i < 100; ++i) EXPECT_LE(engine->stats().steps, 1u);
  });
  EXPECT_TRUE(engine->step_wait(-1));
  asker.join();
}

TEST(Engine, WritesATraceOfItsSteps) {
  const TemporaryDirectory directory;
  const auto params = small_model(Dtype::bf16);
  auto engine = open_engine(nvme_config(directory.path(), R"(, "orlop": {"trace": true})"), params).value();
  train(*engine, params, 2);
  const auto path = (directory.path() / "trace.json").string();
  ASSERT_TRUE(engine->write_trace(path));
  std::ifstream file(path);
  const auto trace = nlohmann::json::parse(file);
  std::map<std::string, int> names;
  for (const auto& event : trace["traceEvents"]) ++names[event["name"]];
  EXPECT_EQ(names["step"], 2);
  EXPECT_EQ(names["gradient"], 10);
  EXPECT_GT(names["read"], 0);
  EXPECT_GT(names["write"], 0);
}

TEST(Engine, DescribesWhatItDecided) {
  const TemporaryDirectory directory;
  auto engine = open_engine(nvme_config(directory.path()), small_model(Dtype::bf16)).value();
  const auto description = nlohmann::json::parse(engine->describe());
  EXPECT_EQ(description["units"].size(), 3u);
  EXPECT_EQ(description["memory"]["host_bytes"], engine->stats().host_bytes);
  EXPECT_TRUE(description["states"].contains("queue")) << description["states"];
}

// What an engine warns of while it is opened.
std::string warnings_of_opening(const std::string& config, const std::vector<ParamSpec>& params) {
  std::string lines;
  const auto collect = [](void* user, std::int32_t, const char* line) { *static_cast<std::string*>(user) += line; };
  EXPECT_TRUE(set_log_callback(collect, &lines, ORLOP_LOG_WARNING));
  open(config, params);
  EXPECT_TRUE(set_log_callback(nullptr, nullptr, ORLOP_LOG_OFF));
  return lines;
}

TEST(Engine, ABudgetThatTheMachineDoesNotHaveIsSaidAndNotPlannedWith) {
  const auto params = small_model(Dtype::bf16);
  EXPECT_THAT(warnings_of_opening(R"({"orlop": {"memory": {"host": "4000000G"}}})", params),
              AllOf(HasSubstr("orlop.memory.host\" (4294967296000000 bytes)"), HasSubstr("write at most that")));
  EXPECT_EQ(warnings_of_opening(R"({"orlop": {"memory": {"host": "1G"}}})", params), "");
}

TEST(Engine, LimitsThatDoNotAgreeAreSaidOnceItIsOpened) {
  const TemporaryDirectory directory;
  const std::string config = R"({"zero_optimization": {"stage": 3, "stage3_max_live_parameters": 1000,
    "offload_param": {"device": "nvme", "nvme_path": ")" + directory.path().string() + R"("}}})";
  EXPECT_THAT(warnings_of_opening(config, small_model(Dtype::bf16)),
              AllOf(HasSubstr("stage3_max_live_parameters\" (1000)"), HasSubstr("write at least 2")));
}

}  // namespace
}  // namespace orlop::zero3
