#include "base/config_value.hpp"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace orlop {
namespace {

using nlohmann::json;

struct Case {
  const char* path;
  const char* given;
  const char* canonical;  // nullptr: refused
};

// Every leniency of DeepSpeed files, and where it ends.
constexpr Case kCases[] = {
    {"bf16.enabled", "true", "true"},
    {"bf16.enabled", "\"true\"", "true"},
    {"bf16.enabled", "\"False\"", "false"},
    {"bf16.enabled", "1", "true"},
    {"bf16.enabled", "0", "false"},
    {"bf16.enabled", "2", nullptr},
    {"bf16.enabled", "\"yes\"", nullptr},
    {"bf16.enabled", "[true]", nullptr},
    {"zero_optimization.stage", "3", "3"},
    {"zero_optimization.stage", "3.0", "3"},
    {"zero_optimization.stage", "\"3\"", "3"},
    {"zero_optimization.stage", "4", nullptr},
    {"zero_optimization.stage", "-1", nullptr},
    {"zero_optimization.stage", "2.5", nullptr},
    {"zero_optimization.stage", "true", nullptr},
    {"zero_optimization.stage", "\"inf\"", nullptr},
    {"zero_optimization.stage", "\"3 \"", nullptr},
    {"zero_optimization.stage", "\"\"", nullptr},
    {"zero_optimization.sub_group_size", "5e8", "500000000"},
    {"zero_optimization.sub_group_size", "\"5e8\"", "500000000"},
    {"zero_optimization.sub_group_size", "1e12", "1000000000000"},
    {"zero_optimization.sub_group_size", "9223372036854775807", "9223372036854775807"},
    {"zero_optimization.sub_group_size", "9.223372036854775807e18", "9223372036854775807"},
    {"zero_optimization.sub_group_size", "\"9007199254740993\"", "9007199254740993"},
    {"zero_optimization.sub_group_size", "-1", nullptr},
    {"zero_optimization.mics_shard_size", "-1", "-1"},
    {"gradient_accumulation_steps", "0", nullptr},
    {"gradient_accumulation_steps", "2147483647", "2147483647"},
    {"gradient_accumulation_steps", "2147483648", nullptr},
    {"gradient_clipping", "1", "1.0"},
    {"gradient_clipping", "\"0.5\"", "0.5"},
    {"gradient_clipping", "0", "0.0"},
    {"gradient_clipping", "-0.1", nullptr},
    {"gradient_clipping", "\"inf\"", nullptr},
    {"gradient_clipping", "\"nan\"", nullptr},
    {"gradient_clipping", "false", nullptr},
    {"fp16.loss_scale", "true", nullptr},
    {"optimizer.params.lr", "\"1e-5\"", "1e-5"},
    {"optimizer.params.lr", "0", "0.0"},
    {"optimizer.params.betas", "[0.9, 0.95]", "[0.9, 0.95]"},
    {"optimizer.params.betas", "[\"0.9\", 0]", "[0.9, 0.0]"},
    {"optimizer.params.betas", "[0.9, 1.0]", nullptr},
    {"optimizer.params.betas", "[0.9]", nullptr},
    {"optimizer.params.betas", "[0.9, 0.99, 0.999]", nullptr},
    {"optimizer.params.betas", "0.9", nullptr},
    {"steps_per_print", "10", "10"},
    {"steps_per_print", "\"inf\"", "null"},
    {"steps_per_print", "0", "null"},
    {"steps_per_print", "1e30", "null"},
    {"steps_per_print", "2.5", nullptr},
    {"steps_per_print", "-1", nullptr},
    {"steps_per_print", "\"-inf\"", nullptr},
    {"steps_per_print", "true", nullptr},
    {"orlop.memory.host", "\"48G\"", "51539607552"},
    {"orlop.memory.host", "48e9", "48000000000"},
    {"orlop.memory.host", "\"1.5 GiB\"", "1610612736"},
    {"orlop.memory.host", "0", nullptr},
    {"orlop.memory.host", "-1", nullptr},
    {"orlop.memory.host", "0.5", nullptr},
    {"orlop.memory.host", "\"much\"", nullptr},
    {"orlop.memory.host", "\"inf\"", nullptr},
    {"aio.block_size", "1048576", "1048576"},
    {"aio.block_size", "\"256K\"", "262144"},
    {"aio.block_size", "1000000", nullptr},
    {"aio.block_size", "0", nullptr},
    {"zero_optimization.offload_optimizer.device", "\"nvme\"", "\"nvme\""},
    {"zero_optimization.offload_optimizer.device", "\"CPU\"", "\"cpu\""},
    {"zero_optimization.offload_optimizer.device", "\"disk\"", nullptr},
    {"zero_optimization.offload_optimizer.device", "\"\"", nullptr},
    {"zero_optimization.offload_optimizer.device", "true", nullptr},
    {"orlop.queue", "\"io_uring\"", "\"uring\""},
    {"orlop.queue", "\"libaio\"", "\"aio\""},
    {"data_types.grad_accum_dtype", "\"bfloat16\"", "\"bf16\""},
    {"zero_optimization.offload_optimizer.nvme_path", "\"/mnt/x\"", "\"/mnt/x\""},
    {"zero_optimization.offload_optimizer.nvme_path", "\"\"", nullptr},
    {"zero_optimization.offload_optimizer.nvme_path", "\"/mnt\\u0000/x\"", nullptr},
    {"zero_optimization.offload_optimizer.nvme_path", "7", nullptr},
    {"zero_optimization.offload_optimizer.nvme_path", "[\"/a\", \"/b\"]", "[\"/a\",\"/b\"]"},
    {"zero_optimization.offload_optimizer.nvme_path", "[\"/a\"]", "\"/a\""},
    {"zero_optimization.offload_optimizer.nvme_path", "[]", nullptr},
    {"zero_optimization.offload_optimizer.nvme_path", "[\"/a\", \"\"]", nullptr},
    {"zero_optimization.offload_optimizer.nvme_path", "[\"/a\", \"/b\", \"/a\"]", nullptr},
    {"zero_optimization.leaf_module.classes", "\"A\"", "[\"A\"]"},
    {"zero_optimization.leaf_module.classes", "[\"A\", \"B\"]", "[\"A\", \"B\"]"},
    {"zero_optimization.leaf_module.classes", "[1]", nullptr},
    {"amp", "{\"enabled\": false}", "{\"enabled\": false}"},
    {"amp", "[]", nullptr},
    {"gradient_clipping", "null", "null"},
};

TEST(ConfigValue, TakesWhatDeepSpeedFilesHold) {
  for (const Case& c : kCases) {
    const auto value = canonical_value(*find_config_key(c.path), c.path, json::parse(c.given));
    if (c.canonical == nullptr) {
      EXPECT_FALSE(value) << c.path << ": " << c.given;
      continue;
    }
    ASSERT_TRUE(value) << c.path << ": " << c.given << ": " << value.error().message;
    EXPECT_EQ(*value, json::parse(c.canonical)) << c.path << ": " << c.given;
    EXPECT_EQ(value->type() == json::value_t::number_float, json::parse(c.canonical).is_number_float())
        << c.path;
  }
}

TEST(ConfigValue, RefusalsNameKeyValueAndWhatFits) {
  const auto stage =
      canonical_value(*find_config_key("zero_optimization.stage"), "zero_optimization.stage", "three");
  ASSERT_FALSE(stage);
  EXPECT_EQ(stage.error().status, ORLOP_INVALID_CONFIG);
  EXPECT_EQ(stage.error().message,
            "config: on \"zero_optimization.stage\" (\"three\"): must be an integer from 0 to 3 (what is "
            "sharded over "
            "ranks; on one rank all stages are the same); write for example \"stage\": 0");
}

TEST(ConfigValue, AliasesAreNamedAsTheyWereWritten) {
  const auto threads = canonical_value(*find_config_key("aio.thread_count"), "aio.thread_count", 0);
  ASSERT_FALSE(threads);
  EXPECT_THAT(threads.error().message,
              ::testing::StartsWith("config: on \"aio.thread_count\" (0): must be an integer from 1"));
}

TEST(ConfigValue, AnObjectAsksForNothingWhenItsSwitchIsOff) {
  const ConfigKey& amp = *find_config_key("amp");
  for (const char* off : {"null", "{}", R"({"opt_level": "O1"})", R"({"enabled": false})",
                          R"({"enabled": "false"})", R"({"enabled": "auto"})", R"({"enabled": null})"}) {
    EXPECT_TRUE(asks_for_nothing(amp, json::parse(off))) << off;
  }
  for (const char* on :
       {R"({"enabled": true})", R"({"enabled": "True"})", R"({"enabled": 1})", R"({"enabled": "perhaps"})"}) {
    EXPECT_FALSE(asks_for_nothing(amp, json::parse(on))) << on;
  }
  EXPECT_TRUE(asks_for_nothing(*find_config_key("tensor_parallel"), {{"autotp_size", 1}}));
  EXPECT_FALSE(asks_for_nothing(*find_config_key("tensor_parallel"), {{"autotp_size", 2}}));
  EXPECT_FALSE(asks_for_nothing(*find_config_key("zero_optimization.zenflow"), {{"topk_ratio", 0.1}}));
}

}  // namespace
}  // namespace orlop
