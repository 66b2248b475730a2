// The C ABI's rules: structs and their sizes, NULLs, order of calls, forks, and that every failure leaves a sentence.
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "orlop/orlop.h"

namespace {

using testing::HasSubstr;

constexpr const char* kConfig =
    R"({"train_micro_batch_size_per_gpu": 1, "gradient_clipping": 0,
        "optimizer": {"type": "AdamW", "params": {"lr": 0.1, "weight_decay": 0}}})";

class Calls : public testing::Test {
 protected:
  void SetUp() override {
    orlop_engine_params params{};
    params.struct_size = sizeof params;
    params.config_json = kConfig;
    ASSERT_EQ(orlop_engine_open(&params, &engine_), ORLOP_OK) << orlop_last_error();
  }
  void TearDown() override { EXPECT_EQ(orlop_engine_close(&engine_), ORLOP_OK) << orlop_last_error(); }

  orlop_status add(const char* name, std::uint64_t numel = 8, std::int32_t dtype = ORLOP_F32) {
    orlop_param_desc desc{};
    desc.struct_size = sizeof desc;
    desc.name = name;
    desc.numel = numel;
    desc.dtype = dtype;
    return orlop_param_register(engine_, &desc, nullptr);
  }
  void commit_one() {
    ASSERT_EQ(add("w"), ORLOP_OK) << orlop_last_error();
    ASSERT_EQ(orlop_engine_commit(engine_), ORLOP_OK) << orlop_last_error();
  }
  orlop_status give_gradient(float value) {
    const std::vector<float> gradient(8, value);
    return orlop_grad_ready(engine_, 0, gradient.data(), ORLOP_F32, nullptr, nullptr);
  }

  orlop_engine* engine_ = nullptr;
};

TEST(Open, RefusesAStructWithoutASize) {
  orlop_engine_params params{};
  orlop_engine* engine = nullptr;
  EXPECT_EQ(orlop_engine_open(&params, &engine), ORLOP_INVALID_ARGUMENT);
  EXPECT_THAT(orlop_last_error(), HasSubstr("struct_size"));
  EXPECT_EQ(engine, nullptr);
}

TEST(Open, AcceptsALongerStructOnlyIfItsTailIsZero) {
  struct Longer {
    orlop_engine_params known;
    std::uint64_t unknown;
  } params{};
  params.known.struct_size = sizeof params;
  orlop_engine* engine = nullptr;
  EXPECT_EQ(orlop_engine_open(&params.known, &engine), ORLOP_OK) << orlop_last_error();
  EXPECT_EQ(orlop_engine_close(&engine), ORLOP_OK);
  params.unknown = 1;
  EXPECT_EQ(orlop_engine_open(&params.known, &engine), ORLOP_UNSUPPORTED);
}

TEST(Open, RefusesAWrongConfigurationWithItsKey) {
  orlop_engine_params params{};
  params.struct_size = sizeof params;
  params.config_json = R"({"zero_optimization": {"stage": "three"}})";
  orlop_engine* engine = nullptr;
  EXPECT_EQ(orlop_engine_open(&params, &engine), ORLOP_INVALID_CONFIG);
  EXPECT_THAT(orlop_last_error(), HasSubstr("zero_optimization.stage"));
}

TEST(Open, RefusesARunIdThatLeavesItsDirectory) {
  orlop_engine_params params{};
  params.struct_size = sizeof params;
  orlop_engine* engine = nullptr;
  for (const char* id : {"", "../x", "a/b", ".hidden", "a b"}) {
    params.run_id = id;
    EXPECT_EQ(orlop_engine_open(&params, &engine), ORLOP_INVALID_ARGUMENT) << id;
  }
}

TEST(Open, RefusesMoreThanOneRankInThisVersion) {
  orlop_engine_params params{};
  params.struct_size = sizeof params;
  params.world_size = 2;
  orlop_engine* engine = nullptr;
  EXPECT_EQ(orlop_engine_open(&params, &engine), ORLOP_UNSUPPORTED);
}

TEST(Close, OfNullDoesNothing) {
  orlop_engine* engine = nullptr;
  EXPECT_EQ(orlop_engine_close(&engine), ORLOP_OK);
  EXPECT_EQ(orlop_engine_close(nullptr), ORLOP_OK);
}

TEST_F(Calls, OnANullEngineAreErrors) {
  EXPECT_EQ(orlop_engine_commit(nullptr), ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(orlop_step(nullptr, nullptr), ORLOP_INVALID_ARGUMENT);
  EXPECT_THAT(orlop_last_error(), HasSubstr("NULL"));
}

TEST_F(Calls, RefuseParametersThatAreWrong) {
  ASSERT_EQ(add("w"), ORLOP_OK);
  EXPECT_EQ(add("w"), ORLOP_INVALID_ARGUMENT);
  EXPECT_THAT(orlop_last_error(), HasSubstr("\"w\""));
  EXPECT_EQ(add("empty", 0), ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(add("type", 8, 7), ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(add(""), ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(add(nullptr), ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(add("vast", 1ull << 60), ORLOP_OK);  // found when it is laid out
  EXPECT_EQ(orlop_engine_commit(engine_), ORLOP_INVALID_ARGUMENT);
}

TEST_F(Calls, RefuseWhatComesTooEarlyOrTooLate) {
  void* address = nullptr;
  EXPECT_EQ(orlop_engine_commit(engine_), ORLOP_OUT_OF_ORDER);  // nothing registered
  EXPECT_EQ(orlop_param_address(engine_, 0, &address), ORLOP_OUT_OF_ORDER);
  EXPECT_EQ(orlop_step(engine_, nullptr), ORLOP_OUT_OF_ORDER);
  commit_one();
  EXPECT_EQ(orlop_engine_commit(engine_), ORLOP_OUT_OF_ORDER);
  EXPECT_EQ(add("late"), ORLOP_OUT_OF_ORDER);
  EXPECT_EQ(orlop_step(engine_, nullptr), ORLOP_OUT_OF_ORDER);  // no micro-batch has ended
  EXPECT_EQ(orlop_step_wait(engine_, 0, nullptr), ORLOP_OUT_OF_ORDER);
  ASSERT_EQ(give_gradient(1), ORLOP_OK) << orlop_last_error();
  ASSERT_EQ(orlop_backward_end(engine_, nullptr), ORLOP_OK);
  EXPECT_EQ(give_gradient(1), ORLOP_OUT_OF_ORDER);
  EXPECT_EQ(orlop_backward_end(engine_, nullptr), ORLOP_OUT_OF_ORDER);
  EXPECT_EQ(orlop_step(engine_, nullptr), ORLOP_OK) << orlop_last_error();
}

TEST_F(Calls, RefuseRangesOutsideTheParameter) {
  commit_one();
  std::array<float, 16> values{};
  EXPECT_EQ(orlop_param_read(engine_, 0, ORLOP_PLANE_PARAM, 0, 9, ORLOP_F32, values.data()), ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(orlop_param_read(engine_, 0, ORLOP_PLANE_PARAM, UINT64_MAX, 2, ORLOP_F32, values.data()),
            ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(orlop_param_read(engine_, 1, ORLOP_PLANE_PARAM, 0, 1, ORLOP_F32, values.data()), ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(orlop_param_read(engine_, 0, 9, 0, 1, ORLOP_F32, values.data()), ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(orlop_param_read(engine_, 0, ORLOP_PLANE_GRAD, 0, 1, ORLOP_F32, values.data()), ORLOP_OUT_OF_ORDER);
}

TEST_F(Calls, StepMovesAParameterByTheLearningRate) {
  commit_one();
  void* address = nullptr;
  ASSERT_EQ(orlop_param_address(engine_, 0, &address), ORLOP_OK);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(address) % 64, 0u);
  ASSERT_EQ(give_gradient(2), ORLOP_OK);
  std::int32_t is_boundary = 0;
  ASSERT_EQ(orlop_backward_end(engine_, &is_boundary), ORLOP_OK);
  EXPECT_EQ(is_boundary, 1);
  orlop_step_report report{};
  report.struct_size = sizeof report;
  ASSERT_EQ(orlop_step(engine_, &report), ORLOP_OK) << orlop_last_error();
  EXPECT_EQ(report.step, 1u);
  EXPECT_DOUBLE_EQ(report.grad_norm, std::sqrt(8 * 4.0));
  EXPECT_NEAR(static_cast<float*>(address)[0], -0.1f, 1e-6);  // Adam's first step is lr * sign(gradient)
}

TEST_F(Calls, AProgramMaySayWhereUpdatesCome) {
  EXPECT_EQ(orlop_boundary_set(engine_, ORLOP_BOUNDARY_NOW), ORLOP_OUT_OF_ORDER) << "before commit";
  commit_one();
  EXPECT_EQ(orlop_boundary_set(engine_, 3), ORLOP_INVALID_ARGUMENT);
  ASSERT_EQ(orlop_boundary_set(engine_, ORLOP_BOUNDARY_NOT_YET), ORLOP_OK);
  std::int32_t is_boundary = 1;
  ASSERT_EQ(give_gradient(2), ORLOP_OK);
  ASSERT_EQ(orlop_backward_end(engine_, &is_boundary), ORLOP_OK);
  EXPECT_EQ(is_boundary, 0);
  ASSERT_EQ(give_gradient(2), ORLOP_OK) << orlop_last_error();
  ASSERT_EQ(orlop_backward_end(engine_, nullptr), ORLOP_OK);
  orlop_step_report report{};
  report.struct_size = sizeof report;
  ASSERT_EQ(orlop_step(engine_, &report), ORLOP_OK) << orlop_last_error();
  EXPECT_DOUBLE_EQ(report.grad_norm, std::sqrt(8 * 16.0));
}

TEST_F(Calls, SkipsAStepWhoseGradientIsNotFinite) {
  commit_one();
  ASSERT_EQ(give_gradient(std::numeric_limits<float>::infinity()), ORLOP_OK);
  ASSERT_EQ(orlop_backward_end(engine_, nullptr), ORLOP_OK);
  std::uint64_t before = 0;
  std::uint64_t after = 0;
  ASSERT_EQ(orlop_engine_digest(engine_, &before), ORLOP_OK);
  orlop_step_report report{};
  report.struct_size = sizeof report;
  ASSERT_EQ(orlop_step(engine_, &report), ORLOP_OK) << orlop_last_error();
  ASSERT_EQ(orlop_engine_digest(engine_, &after), ORLOP_OK);
  EXPECT_EQ(report.skipped, 1u);
  EXPECT_EQ(report.step, 0u);
  EXPECT_EQ(report.skipped_steps, 1u);
  EXPECT_EQ(before, after);
}

TEST_F(Calls, FillAShorterStructOnlyAsFarAsItGoes) {
  commit_one();
  orlop_stats stats{};
  stats.struct_size = offsetof(orlop_stats, steps);
  stats.steps = 77;
  ASSERT_EQ(orlop_engine_stats(engine_, &stats), ORLOP_OK);
  EXPECT_EQ(stats.params, 8u);
  EXPECT_EQ(stats.steps, 77u);
}

TEST_F(Calls, DescribeFillsABufferOfTheSizeItAskedFor) {
  commit_one();
  std::size_t needed = 0;
  ASSERT_EQ(orlop_engine_describe(engine_, nullptr, 0, &needed), ORLOP_OK);
  std::string text(needed, 'x');
  EXPECT_EQ(orlop_engine_describe(engine_, text.data(), needed - 1, &needed), ORLOP_INVALID_ARGUMENT);
  ASSERT_EQ(orlop_engine_describe(engine_, text.data(), needed, &needed), ORLOP_OK);
  const auto description = nlohmann::json::parse(text.c_str());
  EXPECT_EQ(description["units"].size(), 1u);
}

TEST_F(Calls, AfterAForkAreRefusedInTheChild) {
  commit_one();
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const bool refused = orlop_backward_end(engine_, nullptr) == ORLOP_FORKED;
    const bool closed = orlop_engine_close(&engine_) == ORLOP_OK && engine_ == nullptr;
    ::_exit(refused && closed ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(orlop_backward_end(engine_, nullptr), ORLOP_OK) << "the parent's engine goes on";
}

TEST_F(Calls, AfterACancelSayThatTheEngineHasStopped) {
  commit_one();
  ASSERT_EQ(give_gradient(1), ORLOP_OK);
  ASSERT_EQ(orlop_backward_end(engine_, nullptr), ORLOP_OK);
  orlop_engine_cancel(engine_);
  EXPECT_EQ(orlop_step(engine_, nullptr), ORLOP_CANCELLED);
  EXPECT_EQ(give_gradient(1), ORLOP_CANCELLED);
  EXPECT_EQ(orlop_step(engine_, nullptr), ORLOP_CANCELLED);
}

TEST(Config, IsResolvedWithDefaultsAndOrigins) {
  std::size_t needed = 0;
  ASSERT_EQ(orlop_config_resolve(kConfig, 1, nullptr, 0, &needed), ORLOP_OK) << orlop_last_error();
  std::string text(needed, '\0');
  ASSERT_EQ(orlop_config_resolve(kConfig, 1, text.data(), needed, &needed), ORLOP_OK);
  const auto resolved = nlohmann::json::parse(text.c_str());
  EXPECT_EQ(resolved["values"]["gradient_accumulation_steps"], 1);
  EXPECT_FALSE(resolved["entries"].empty());
}

TEST(Log, IsSilentUntilACallbackIsSetAndThenHearsTheEngine) {
  std::vector<std::string> lines;
  const auto hear = [](void* user, std::int32_t, const char* line) {
    static_cast<std::vector<std::string>*>(user)->emplace_back(line);
  };
  ASSERT_EQ(orlop_log_set(hear, &lines, ORLOP_LOG_INFO), ORLOP_OK);
  orlop_engine_params params{};
  params.struct_size = sizeof params;
  params.config_json = R"({"unheard_of": 1})";
  orlop_engine* engine = nullptr;
  ASSERT_EQ(orlop_engine_open(&params, &engine), ORLOP_OK) << orlop_last_error();
  EXPECT_EQ(orlop_engine_close(&engine), ORLOP_OK);
  ASSERT_EQ(orlop_log_set(nullptr, nullptr, ORLOP_LOG_INFO), ORLOP_OK);
  EXPECT_THAT(lines, testing::Contains(HasSubstr("unheard_of")));
  EXPECT_EQ(orlop_log_set(hear, &lines, 9), ORLOP_INVALID_ARGUMENT);
}

class Imports : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "orlop-import-XXXXXX").string();
    parent_ = ::mkdtemp(name.data());
    directory_ = parent_ + "/imported";
  }
  void TearDown() override {
    EXPECT_EQ(orlop_import_close(&import_), ORLOP_OK);
    std::filesystem::remove_all(parent_);
  }

  // Two parameters, of 8 and 3 elements, in structs that end sooner than the header's, or later.
  template <typename Desc>
  orlop_status open(const char* second = "v") {
    std::array<Desc, 2> descs{};
    for (Desc& padded : descs) {
      auto& desc = reinterpret_cast<orlop_param_desc&>(padded);
      desc.struct_size = sizeof(Desc);
      desc.name = &padded == descs.data() ? "w" : second;
      desc.numel = &padded == descs.data() ? 8 : 3;
    }
    orlop_import_params params{};
    params.struct_size = sizeof params;
    params.directory = directory_.c_str();
    params.params = reinterpret_cast<const orlop_param_desc*>(descs.data());
    params.param_count = descs.size();
    return orlop_import_open(&params, &import_);
  }
  orlop_status write(std::uint32_t param, std::uint64_t first, std::uint64_t count) {
    return orlop_import_write(import_, param, first, count, ORLOP_F32, values_.data() + first);
  }

  std::string parent_;
  std::string directory_;
  std::array<float, 8> values_ = {1, 2, 3, 4, 5, 6, 7, 8};
  orlop_import* import_ = nullptr;
};

struct LongerDesc {
  orlop_param_desc known;
  std::uint64_t unknown;
};

TEST_F(Imports, AreReadAsTheyWereWritten) {
  ASSERT_EQ(open<LongerDesc>(), ORLOP_OK) << orlop_last_error();
  EXPECT_EQ(write(0, 0, 5), ORLOP_OK) << orlop_last_error();
  EXPECT_EQ(write(0, 5, 3), ORLOP_OK) << orlop_last_error();
  EXPECT_EQ(write(1, 0, 3), ORLOP_OK) << orlop_last_error();
  EXPECT_EQ(orlop_import_complete(import_), ORLOP_OK) << orlop_last_error();
  ASSERT_EQ(orlop_import_close(&import_), ORLOP_OK);
  orlop_checkpoint* checkpoint = nullptr;
  ASSERT_EQ(orlop_checkpoint_open(directory_.c_str(), &checkpoint), ORLOP_OK) << orlop_last_error();
  std::array<float, 8> found{};
  for (const auto plane : {ORLOP_PLANE_PARAM, ORLOP_PLANE_MASTER}) {
    EXPECT_EQ(orlop_checkpoint_read(checkpoint, 0, plane, 0, 8, ORLOP_F32, found.data()), ORLOP_OK);
    EXPECT_EQ(found, values_);
  }
  EXPECT_EQ(orlop_checkpoint_read(checkpoint, 0, ORLOP_PLANE_EXP_AVG, 0, 8, ORLOP_F32, found.data()),
            ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(orlop_checkpoint_close(&checkpoint), ORLOP_OK);
}

TEST_F(Imports, ThatAreClosedTooSoonLeaveNothing) {
  ASSERT_EQ(open<orlop_param_desc>(), ORLOP_OK) << orlop_last_error();
  EXPECT_EQ(write(0, 0, 8), ORLOP_OK);
  EXPECT_EQ(orlop_import_complete(import_), ORLOP_OUT_OF_ORDER);
  EXPECT_THAT(orlop_last_error(), HasSubstr("\"v\""));
  EXPECT_EQ(orlop_import_close(&import_), ORLOP_OK);
  EXPECT_EQ(import_, nullptr);
  EXPECT_FALSE(std::filesystem::exists(directory_));
}

TEST_F(Imports, RefuseWhatIsWrong) {
  EXPECT_EQ(open<orlop_param_desc>("w"), ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(open<orlop_param_desc>(nullptr), ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(import_, nullptr);
  EXPECT_FALSE(std::filesystem::exists(directory_));
  EXPECT_EQ(orlop_import_write(nullptr, 0, 0, 1, ORLOP_F32, values_.data()), ORLOP_INVALID_ARGUMENT);
  ASSERT_EQ(open<orlop_param_desc>(), ORLOP_OK);
  EXPECT_EQ(write(1, 0, 3), ORLOP_OUT_OF_ORDER);
  EXPECT_EQ(write(0, 1, 3), ORLOP_OUT_OF_ORDER);
  EXPECT_EQ(write(0, 0, 9), ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(write(0, 0, UINT64_MAX), ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(write(0, 0, 8), ORLOP_OK) << orlop_last_error();
}

class Tensors : public testing::Test {
 protected:
  Tensors() {
    group_.struct_size = sizeof group_;
    group_.decoupled_weight_decay = 1;
    group_.bias_correction = 1;
    group_.lr = 0.5;
    tensor_.struct_size = sizeof tensor_;
    tensor_.numel = param_.size();
    tensor_.param = param_.data();
    tensor_.grad = grad_.data();
    tensor_.exp_avg = exp_avg_.data();
    tensor_.exp_avg_sq = exp_avg_sq_.data();
    tensor_.step = 1;
  }
  orlop_status update() { return orlop_tensor_update(&group_, &tensor_, 1); }
  void expect_refused(const char* why) {
    EXPECT_EQ(update(), ORLOP_INVALID_ARGUMENT);
    EXPECT_THAT(orlop_last_error(), HasSubstr(why));
    EXPECT_EQ(param_, (std::array<float, 3>{1, 1, 1}));
  }

  std::array<float, 3> param_ = {1, 1, 1}, grad_ = {2, -2, 2}, exp_avg_{}, exp_avg_sq_{};
  orlop_group_params group_{};
  orlop_tensor tensor_{};
};

TEST_F(Tensors, AreUpdatedInPlace) {
  ASSERT_EQ(update(), ORLOP_OK) << orlop_last_error();
  EXPECT_EQ(param_, (std::array<float, 3>{0.5, 1.5, 0.5})) << "with betas of 0 a step is lr towards the gradient's sign";
  EXPECT_EQ(exp_avg_, grad_);
  EXPECT_EQ(exp_avg_sq_, (std::array<float, 3>{4, 4, 4}));
}

TEST_F(Tensors, MayBeNone) {
  EXPECT_EQ(orlop_tensor_update(&group_, nullptr, 0), ORLOP_OK);
  EXPECT_EQ(orlop_tensor_update(&group_, nullptr, 1), ORLOP_INVALID_ARGUMENT);
}

TEST_F(Tensors, OfALaterVersionFollowEachOtherAtTheirOwnSize) {
  struct Longer {
    orlop_tensor known;
    std::uint64_t unknown;
  };
  std::array<Longer, 2> tensors{};
  std::array<float, 3> second = {1, 1, 1}, exp_avg{}, exp_avg_sq{};
  for (Longer& tensor : tensors) {
    tensor.known = tensor_;
    tensor.known.struct_size = sizeof tensor;
  }
  tensors[1].known.param = second.data();
  tensors[1].known.exp_avg = exp_avg.data();
  tensors[1].known.exp_avg_sq = exp_avg_sq.data();
  ASSERT_EQ(orlop_tensor_update(&group_, &tensors[0].known, 2), ORLOP_OK) << orlop_last_error();
  EXPECT_EQ(second, param_);
}

TEST_F(Tensors, AreUpdatedInAForkedChildToo) {
  ASSERT_EQ(update(), ORLOP_OK) << orlop_last_error();
  const pid_t child = ::fork();
  if (child == 0) {
    const bool is_updated = update() == ORLOP_OK && param_[0] < 0.5f;
    ::_exit(is_updated ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_F(Tensors, RefuseWhatIsWrong) {
  const auto refuse = [&](const char* why, auto change) {
    const auto [group, tensor] = std::pair(group_, tensor_);
    change();
    expect_refused(why);
    group_ = group;
    tensor_ = tensor;
  };
  refuse("lr = -1", [&] { group_.lr = -1; });
  refuse("EXTERNAL", [&] { group_.optimizer = ORLOP_OPTIMIZER_EXTERNAL; });
  refuse("number", [&] { group_.optimizer = 9; });
  refuse("knows only 0", [&] { group_.optimizer = ORLOP_OPTIMIZER_ADAGRAD; });
  refuse("exp_avg: the optimizer has that state", [&] { tensor_.exp_avg = nullptr; });
  refuse("exp_avg_sq: the optimizer has no such state", [&] { group_.optimizer = ORLOP_OPTIMIZER_LION; });
  refuse("count from 1", [&] { tensor_.step = 0; });
  refuse("dtype 7", [&] { tensor_.state_dtype = 7; });
  refuse("a gradient", [&] { tensor_.grad = nullptr; });
  refuse("struct_size", [&] { tensor_.struct_size = 0; });
}

orlop_host_pool* pool_of(std::uint64_t limit_bytes) {
  orlop_host_pool_params params{};
  params.struct_size = sizeof params;
  params.limit_bytes = limit_bytes;
  orlop_host_pool* pool = nullptr;
  EXPECT_EQ(orlop_host_pool_open(&params, &pool), ORLOP_OK) << orlop_last_error();
  return pool;
}

TEST(HostPools, LendMemoryUpToTheirLimit) {
  orlop_host_pool* pool = pool_of(4u << 20);
  void* memory = nullptr;
  ASSERT_EQ(orlop_host_pool_take(pool, 3u << 20, &memory), ORLOP_OK) << orlop_last_error();
  std::memset(memory, 1, 3u << 20);
  void* more = nullptr;
  EXPECT_EQ(orlop_host_pool_take(pool, 2u << 20, &more), ORLOP_NO_MEMORY);
  orlop_host_pool_use use{};
  use.struct_size = sizeof use;
  ASSERT_EQ(orlop_host_pool_look(pool, &use), ORLOP_OK);
  EXPECT_EQ(use.limit_bytes, 4u << 20);
  EXPECT_EQ(use.host_bytes, 4u << 20);
  EXPECT_EQ(use.used_bytes, 3u << 20);
  EXPECT_EQ(orlop_host_pool_give_back(pool, memory), ORLOP_OK);
  EXPECT_EQ(orlop_host_pool_give_back(pool, memory), ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(orlop_host_pool_close(&pool), ORLOP_OK);
  EXPECT_EQ(pool, nullptr);
}

TEST(HostPools, RefuseWhatIsWrong) {
  orlop_host_pool_params params{};
  params.struct_size = sizeof params;
  params.flags = 8;
  orlop_host_pool* pool = nullptr;
  EXPECT_EQ(orlop_host_pool_open(&params, &pool), ORLOP_INVALID_ARGUMENT);
  params.flags = 0;
  params.device_kind = 7;
  EXPECT_EQ(orlop_host_pool_open(&params, &pool), ORLOP_INVALID_ARGUMENT);
  EXPECT_THAT(orlop_last_error(), HasSubstr("device kind 7"));
  void* memory = nullptr;
  EXPECT_EQ(orlop_host_pool_take(nullptr, 1, &memory), ORLOP_INVALID_ARGUMENT);
}

TEST(HostPools, AfterAForkAreRefusedInTheChild) {
  orlop_host_pool* pool = pool_of(0);
  const pid_t child = ::fork();
  if (child == 0) {
    void* memory = nullptr;
    const bool is_refused = orlop_host_pool_take(pool, 1, &memory) == ORLOP_FORKED;
    ::_exit(is_refused && orlop_host_pool_close(&pool) == ORLOP_OK ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(orlop_host_pool_close(&pool), ORLOP_OK);
}

class FileQueues : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "orlop-calls-XXXXXX").string();
    directory_ = ::mkdtemp(name.data());
    orlop_file_queue_params params{};
    params.struct_size = sizeof params;
    params.queue = "threads";
    ASSERT_EQ(orlop_file_queue_open(&params, &queue_), ORLOP_OK) << orlop_last_error();
  }
  void TearDown() override {
    EXPECT_EQ(orlop_file_queue_close(&queue_), ORLOP_OK) << orlop_last_error();
    std::filesystem::remove_all(directory_);
  }

  std::string directory_;
  orlop_file_queue* queue_ = nullptr;
};

TEST_F(FileQueues, ReadWhatTheyWrote) {
  const std::string path = directory_ + "/file";
  const std::string text(10001, 'x');
  orlop_ticket ticket = 0;
  ASSERT_EQ(orlop_file_queue_write(queue_, path.c_str(), 3, text.size(), text.data(), &ticket), ORLOP_OK);
  EXPECT_NE(ticket, 0u);
  ASSERT_EQ(orlop_file_queue_wait(queue_, ticket, -1), ORLOP_OK) << orlop_last_error();
  std::string found(text.size(), ' ');
  ASSERT_EQ(orlop_file_queue_read(queue_, path.c_str(), 3, found.size(), found.data(), nullptr), ORLOP_OK);
  EXPECT_EQ(found, text);
  EXPECT_EQ(std::filesystem::file_size(path), 10004u);
}

TEST_F(FileQueues, RefuseWhatIsWrong) {
  char byte = 0;
  EXPECT_EQ(orlop_file_queue_read(queue_, nullptr, 0, 1, &byte, nullptr), ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(orlop_file_queue_read(queue_, "x", 0, 1, nullptr, nullptr), ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(orlop_file_queue_read(queue_, "x", UINT64_MAX, 1, &byte, nullptr), ORLOP_INVALID_ARGUMENT);
  EXPECT_EQ(orlop_file_queue_read(queue_, (directory_ + "/none").c_str(), 0, 1, &byte, nullptr), ORLOP_NOT_FOUND);
  EXPECT_EQ(orlop_file_queue_wait(nullptr, 0, 0), ORLOP_INVALID_ARGUMENT);
  orlop_file_queue_params params{};
  params.struct_size = sizeof params;
  params.queue = "tape";
  orlop_file_queue* other = nullptr;
  EXPECT_EQ(orlop_file_queue_open(&params, &other), ORLOP_INVALID_ARGUMENT);
  params.queue = nullptr;
  params.depth = 5000;
  EXPECT_EQ(orlop_file_queue_open(&params, &other), ORLOP_INVALID_ARGUMENT);
}

TEST(StatusNames, AreThoseOfTheHeader) {
  EXPECT_STREQ(orlop_status_name(ORLOP_NO_SPACE), "ORLOP_NO_SPACE");
  EXPECT_STREQ(orlop_status_name(-99), "ORLOP_UNKNOWN");
}

}  // namespace
