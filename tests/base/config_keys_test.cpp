#include "base/config_keys.hpp"

#include <set>
#include <string>

#include <gtest/gtest.h>

#include "base/config_value.hpp"

namespace orlop {
namespace {

TEST(ConfigKeys, AreNamedOnce) {
  std::set<std::string_view> names;
  for (const ConfigKey& key : config_keys()) {
    EXPECT_TRUE(names.insert(key.path).second) << key.path;
    for (const auto alias : split_list(key.aliases)) EXPECT_TRUE(names.insert(alias).second) << alias;
  }
}

TEST(ConfigKeys, LieInBlocksOfTheTable) {
  for (const ConfigKey& key : config_keys()) {
    const auto dot = key.path.rfind('.');
    if (dot == std::string_view::npos) continue;
    const ConfigKey* parent = find_config_key(key.path.substr(0, dot));
    ASSERT_NE(parent, nullptr) << key.path;
    EXPECT_EQ(parent->type, KeyType::block) << key.path;
  }
}

TEST(ConfigKeys, SayWhatTheyMeanAndWhy) {
  for (const ConfigKey& key : config_keys()) {
    EXPECT_FALSE(key.meaning.empty()) << key.path;
    EXPECT_TRUE(key.status == KeyStatus::honoured || !key.remark.empty()) << key.path;
    EXPECT_EQ(key.meaning.find('\n'), std::string_view::npos) << key.path;
  }
}

TEST(ConfigKeys, RefusalsSayWhatToDoInstead) {
  for (const ConfigKey& key : config_keys()) {
    if (key.status != KeyStatus::refused) continue;
    const std::string remark(key.remark);
    const bool advises = remark.find("write") != std::string::npos ||
                         remark.find("leave") != std::string::npos ||
                         remark.find("use ") != std::string::npos ||
                         remark.find("cast") != std::string::npos || remark.find("make") != std::string::npos;
    EXPECT_TRUE(advises) << key.path << ": " << remark;
  }
}

TEST(ConfigKeys, DefaultsFitTheirOwnRows) {
  for (const ConfigKey& key : config_keys()) {
    if (key.default_json == "null") continue;
    const auto value = nlohmann::json::parse(key.default_json);
    EXPECT_TRUE(canonical_value(key, key.path, value)) << key.path;
    EXPECT_FALSE(default_value(key).is_null()) << key.path;
  }
}

TEST(ConfigKeys, AreFoundByPathAndAlias) {
  ASSERT_NE(find_config_key("zero_optimization.stage"), nullptr);
  EXPECT_EQ(find_config_key("zero_optimization.stage")->path, "zero_optimization.stage");
  EXPECT_EQ(find_config_key("aio.num_threads")->path, "aio.intra_op_parallelism");
  EXPECT_EQ(find_config_key("bfloat16")->path, "bf16");
  EXPECT_EQ(find_config_key("stage"), nullptr);
  EXPECT_EQ(find_config_key(""), nullptr);
}

TEST(ConfigKeys, TheNearestIsFoundForSlipsOfTheFinger) {
  EXPECT_EQ(nearest_config_key("gradient_cliping"), "gradient_clipping");
  EXPECT_EQ(nearest_config_key("zero_optimisation"), "zero_optimization");
  EXPECT_EQ(nearest_config_key("zero_optimization.Stage"), "zero_optimization.stage");
  EXPECT_EQ(nearest_config_key("zero_optimization.stgae"), "zero_optimization.stage");
  EXPECT_EQ(nearest_config_key("gradient-accumulation-step"), "gradient_accumulation_steps");
  EXPECT_EQ(nearest_config_key("bf16.enable"), "bf16.enabled");
  EXPECT_EQ(nearest_config_key("aio.blocksize"), "aio.block_size");
  EXPECT_EQ(nearest_config_key("orlop.memory.hots"), "orlop.memory.host");
}

TEST(ConfigKeys, TheNearestMayBeInAnotherBlock) {
  EXPECT_EQ(nearest_config_key("offload_optimizer"), "zero_optimization.offload_optimizer");
  EXPECT_EQ(nearest_config_key("zero_optimization.gradient_clipping"), "gradient_clipping");
  EXPECT_EQ(nearest_config_key("orlop.non_finit"), "orlop.non_finite");
}

TEST(ConfigKeys, NothingIsNearAnotherWord) {
  EXPECT_EQ(nearest_config_key("wombat"), "");
  EXPECT_EQ(nearest_config_key("a"), "");
  EXPECT_EQ(nearest_config_key(std::string(100'000, 'a')), "");
}

TEST(ConfigKeys, TypesAreDescribedInWords) {
  EXPECT_EQ(describe_type(*find_config_key("zero_optimization.stage")), "an integer from 0 to 3");
  EXPECT_EQ(describe_type(*find_config_key("train_batch_size")), "an integer of at least 1");
  EXPECT_EQ(describe_type(*find_config_key("optimizer.params.betas")),
            "an array of two numbers from 0 to below 1");
  EXPECT_EQ(describe_type(*find_config_key("orlop.non_finite")), "\"skip\" or \"stop\" or \"apply\"");
  EXPECT_EQ(describe_type(*find_config_key("aio.block_size")),
            "a size such as 1048576, \"64M\" or \"48G\", a multiple of 4096, at most 1073741824");
}

TEST(ConfigKeys, ListsAreSplit) {
  EXPECT_TRUE(split_list("").empty());
  EXPECT_EQ(split_list("a|b|c"), (std::vector<std::string_view>{"a", "b", "c"}));
}

}  // namespace
}  // namespace orlop
