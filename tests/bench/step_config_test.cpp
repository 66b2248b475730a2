#include "bench/step_config.hpp"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace orlop::bench {
namespace {

using testing::HasSubstr;

class StepConfig : public testing::Test {
 protected:
  StepConfig() { std::filesystem::create_directory(directory_); }
  ~StepConfig() override { std::filesystem::remove_all(directory_); }

  StepArguments with_file(const std::string& text) {
    StepArguments options;
    options.config_file = directory_ + "/config.json";
    std::ofstream(*options.config_file) << text;
    return options;
  }

  const std::string directory_ =
      (std::filesystem::temp_directory_path() / ("step_config_test." + std::to_string(::getpid()))).string();
};

TEST_F(StepConfig, OfNothingIsBf16InMemory) {
  const auto config = step_config({});
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->dtype, ORLOP_BF16);
  EXPECT_EQ(config->offload_optimizer, OffloadDevice::none);
  EXPECT_EQ(config->gradient_clipping, 1.0);
  EXPECT_TRUE(config->optimizer);
}

TEST_F(StepConfig, TakesEveryOption) {
  StepArguments options;
  options.dtype = "fp32";
  options.device = "nvme";
  options.nvme_paths = {"/d"};
  options.ram_bytes = 1u << 30;
  options.queue = "aio";
  options.threads = 3;
  options.run_id = "r";
  options.clip = 0;
  options.trace_file = "t.json";
  const auto config = step_config(options);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->dtype, ORLOP_F32);
  EXPECT_EQ(config->offload_optimizer, OffloadDevice::nvme);
  EXPECT_EQ(config->nvme_paths, std::vector<std::string>{"/d"});
  EXPECT_EQ(config->memory.host, 1u << 30);
  options.nvme_paths.push_back("/e");
  EXPECT_EQ(step_config(options)->nvme_paths, (std::vector<std::string>{"/d", "/e"}));
  EXPECT_EQ(config->queue, "aio");
  EXPECT_EQ(config->thread_count, 3u);
  EXPECT_EQ(config->run_id, "r");
  EXPECT_EQ(config->gradient_clipping, 0);
  EXPECT_TRUE(config->trace);
}

TEST_F(StepConfig, ADirectoryAloneMeansNvme) {
  StepArguments options;
  options.nvme_paths = {"/d"};
  EXPECT_EQ(step_config(options)->offload_optimizer, OffloadDevice::nvme);
}

TEST_F(StepConfig, OptionsOverrideTheFile) {
  StepArguments options = with_file(R"({
    "fp16": {"enabled": true},  // comments are allowed
    "gradient_clipping": 3,
    "gradient_accumulation_steps": 4,
    "optimizer": {"type": "Adam", "params": {"lr": 0.5}},
    "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "nvme", "nvme_path": "/a"}}})");
  options.dtype = "bf16";
  options.nvme_paths = {"/b"};
  const auto config = step_config(options);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->dtype, ORLOP_BF16);
  EXPECT_EQ(config->nvme_paths, std::vector<std::string>{"/b"});
  EXPECT_EQ(config->gradient_clipping, 3);
  EXPECT_EQ(config->gradient_accumulation_steps, 4u);
  EXPECT_EQ(config->zero_stage, 2);
  EXPECT_EQ(config->optimizer->lr, 0.5);
}

TEST_F(StepConfig, TheFilesTypeStaysWhenNoneIsGiven) {
  EXPECT_EQ(step_config(with_file("{}"))->dtype, ORLOP_F32);
  EXPECT_EQ(step_config(with_file(R"({"bf16": {"enabled": true}})"))->dtype, ORLOP_BF16);
}

TEST_F(StepConfig, AnUnknownKeyIsAnErrorWithTheNearestName) {
  const auto config = step_config(with_file(R"({"gradient_cliping": 1.0})"));
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().status, ORLOP_INVALID_CONFIG);
  EXPECT_THAT(config.error().message, HasSubstr("gradient_clipping"));
  EXPECT_THAT(config.error().message, HasSubstr("config.json"));
}

TEST_F(StepConfig, AFileThatIsNotThereOrNoJsonIsSaid) {
  StepArguments options;
  options.config_file = directory_ + "/none.json";
  EXPECT_THAT(step_config(options).error().message, HasSubstr("none.json: cannot be read: No such file"));
  EXPECT_THAT(step_config(with_file("{")).error().message, HasSubstr("config.json"));
}

}  // namespace
}  // namespace orlop::bench
