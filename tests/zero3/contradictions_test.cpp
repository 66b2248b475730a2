#include "zero3/contradictions.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "zero3/live_demand.hpp"

namespace orlop::zero3 {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Of bf16: two layers that live in the store, the larger enclosed by a held one, and a small parameter.
const std::vector<ParamSpec> kModel = {
    {"norm", Dtype::bf16, 1000, 0, 0},
    {"up", Dtype::bf16, 3'000'000, 0, 1, Training::trainable, Home::store},
    {"head", Dtype::bf16, 5'000'000, 0, 2, Training::trainable, Home::store},
    {"scale", Dtype::bf16, 2'500'000, 0, 3, Training::trainable, Home::store, true},
};
constexpr std::uint64_t kStoredBytes = 2 * 10'500'000;

// `zero` goes into zero_optimization, `param` into offload_param.
std::vector<std::string> sentences(const std::string& zero, const std::string& param = "", const std::string& top = "",
                                   std::uint64_t in_memory = kStoredBytes, std::vector<ParamSpec> params = kModel) {
  const std::string text = R"({"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme", "nvme_path": "/d")" +
                           param + "}" + zero + "}" + top + "}";
  const auto config = resolve_config(text, 1);
  EXPECT_TRUE(config) << config.error().message;
  const auto units = plan_units(params);
  return contradictions(*config, *units, params, live_demand(*config, *units, params, true), in_memory);
}

TEST(Contradictions, DefaultsHaveNone) {
  EXPECT_THAT(sentences(""), IsEmpty());
  EXPECT_THAT(sentences("", "", "", kStoredBytes, {{"tiny", Dtype::f32, 10}}), IsEmpty());
}

TEST(Contradictions, LimitsBelowWhatIsInUseAtOnceAreSaidWithWhatToWrite) {
  EXPECT_THAT(sentences(R"(, "stage3_max_live_parameters": 7499999)"),
              ElementsAre(AllOf(HasSubstr("stage3_max_live_parameters\" (7499999)"), HasSubstr("\"head\""),
                                HasSubstr("write at least 7500000"))));
  EXPECT_THAT(sentences(R"(, "stage3_max_live_parameters": 7500000)"), IsEmpty());
  EXPECT_THAT(sentences("", R"(, "max_in_cpu": 1e6)"), ElementsAre(HasSubstr("max_in_cpu\" (1000000)")));
}

TEST(Contradictions, ZeroAsksForNothingToBeKept) {
  EXPECT_THAT(sentences(R"(, "stage3_max_live_parameters": 0)", R"(, "max_in_cpu": 0)"), IsEmpty());
}

TEST(Contradictions, SmallParametersBeyondTheLiveLimitAreSaidWithBothKeys) {
  std::vector<ParamSpec> many = kModel;
  for (int i = 0; i < 80; ++i) many.push_back({"small", Dtype::bf16, 100'000, 0, 0});
  const auto said = sentences(R"(, "stage3_max_live_parameters": 7500000, "stage3_param_persistence_threshold": 100000)", "", "",
                              kStoredBytes, many);
  EXPECT_THAT(said, ElementsAre(AllOf(HasSubstr("persistence_threshold\" (100000)"), HasSubstr("8001000 elements"),
                                      HasSubstr("7500000"), HasSubstr("stage3_max_live_parameters"))));
  EXPECT_THAT(sentences(R"(, "stage3_max_live_parameters": 7500000)", "", "", kStoredBytes, many), IsEmpty())
      << "the threshold is the default";
}

TEST(Contradictions, ABudgetBelowWhatMaxInCpuAsksForIsSaidWithTheShortfall) {
  const std::string budget = R"(, "orlop": {"memory": {"host": 123456789}})";
  EXPECT_THAT(sentences("", R"(, "max_in_cpu": 1e9)", budget, kStoredBytes - 6),
              ElementsAre(AllOf(HasSubstr("max_in_cpu\" (1000000000)"), HasSubstr("orlop.memory.host\" (123456789 bytes)"),
                                HasSubstr("21000000 bytes"), HasSubstr("raise the budget by 6"))));
  EXPECT_THAT(sentences("", R"(, "max_in_cpu": 1e9)", budget, kStoredBytes), IsEmpty());
  EXPECT_THAT(sentences("", R"(, "max_in_cpu": 1e9)", "", 0), IsEmpty()) << "without a budget";
}

TEST(Contradictions, AThresholdThatKeepsEveryParameterInMemoryIsSaid) {
  const std::vector<ParamSpec> small = {{"up", Dtype::f32, 10}, {"head", Dtype::f32, 20}};
  EXPECT_THAT(sentences(R"(, "stage3_param_persistence_threshold": 20)", "", "", 0, small),
              ElementsAre(AllOf(HasSubstr("\"head\" has 20"), HasSubstr("write less than 20"))));
}

}  // namespace
}  // namespace orlop::zero3
