#include "bench/model.hpp"

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace orlop::bench {
namespace {

using testing::HasSubstr;
using zero3::Dtype;

struct Published {
  const char* name;
  std::uint64_t params;
};

// From the models' papers and files.
class Architectures : public testing::TestWithParam<Published> {};

TEST_P(Architectures, HaveAsManyParametersAsPublished) {
  const auto model = model_by_name(GetParam().name, Dtype::bf16);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ(model->elements(), GetParam().params);
}

INSTANTIATE_TEST_SUITE_P(All, Architectures,
                         testing::Values(Published{"gpt2", 124'439'808}, Published{"gpt2-medium", 354'823'168},
                                         Published{"gpt2-large", 774'030'080}, Published{"gpt2-xl", 1'557'611'200},
                                         Published{"smollm2-135m", 134'515'008}, Published{"llama-1b", 1'235'814'400},
                                         Published{"llama-3b", 3'212'749'824}, Published{"llama-7b", 6'738'415'616},
                                         Published{"llama-8b", 8'030'261'248}, Published{"llama-13b", 13'015'864'320},
                                         Published{"llama-70b", 68'976'648'192},
                                         Published{"llama-405b", 405'853'388'800},
                                         Published{"mistral-7b", 7'241'732'096}));

TEST(Model, EveryKnownNameIsTestedAgainstItsPublishedSize) { EXPECT_EQ(known_models().size(), 13u); }

TEST(Model, NamesMayBeWrittenInCapitalsAndWithUnderscores) {
  EXPECT_EQ(model_by_name("GPT2_Medium", Dtype::bf16)->name, "gpt2-medium");
}

TEST(Model, AnUnknownNameIsAnsweredWithTheNearest) {
  const auto model = model_by_name("lama-7", Dtype::bf16);
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().status, ORLOP_INVALID_ARGUMENT);
  EXPECT_THAT(model.error().message, HasSubstr("did you mean \"llama-7b\"?"));
}

TEST(Model, NoTwoParametersShareAName) {
  for (const auto name : known_models()) {
    const auto model = model_by_name(name, Dtype::bf16);
    std::set<std::string> names;
    for (const auto& param : model->params) EXPECT_TRUE(names.insert(param.name).second) << param.name;
  }
}

TEST(Model, LayersAreModulesOfTheirOwn) {
  const auto model = model_by_name("gpt2", Dtype::bf16);
  EXPECT_EQ(model->params.front().module, 0);
  EXPECT_EQ(model->params.back().module, 13);  // embeddings, 12 layers, the last norm
}

TEST(Model, HasExactlyTheSizeThatWasAskedFor) {
  for (const std::uint64_t params : {1ull, 999ull, 123'457ull, 2'000'000ull, 500'000'000ull, 7'000'000'001ull}) {
    const auto model = model_of_size(params, {}, Dtype::bf16);
    ASSERT_TRUE(model) << model.error().message;
    EXPECT_EQ(model->elements(), params);
  }
}

// The benchmark holds one gradient at a time beside the engine, and that is no embedding.
TEST(Model, OfASizeHasNoParameterLargerThanALayersMatrix) {
  const auto model = model_of_size(500'000'000, {}, Dtype::bf16);
  EXPECT_LT(model->largest_param(), 10'000'000u);
}

TEST(Model, KeepsToTheLayersAndWidthThatAreGiven) {
  const auto model = model_of_size(10'000'000, {3, 256}, Dtype::f32);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ(model->elements(), 10'000'000u);
  EXPECT_EQ(model->params[2].name, "transformer.h.0.attn.c_attn.weight");
  EXPECT_EQ(model->params[2].numel, 3u * 256 * 256);
  EXPECT_EQ(model->params[2].dtype, Dtype::f32);
}

TEST(Model, RefusesLayersThatAreLargerThanTheWhole) {
  const auto model = model_of_size(1000, {2, 64}, Dtype::bf16);
  ASSERT_FALSE(model);
  EXPECT_THAT(model.error().message, HasSubstr("these layers alone have 99968"));
}

TEST(Model, RefusesShapesThatOverflow) {
  EXPECT_FALSE(model_of_size(1u << 20, {1, 1ull << 40}, Dtype::bf16));
  EXPECT_FALSE(model_of_size(1ull << 60, {}, Dtype::bf16));
  EXPECT_FALSE(model_of_size(0, {}, Dtype::bf16));
  EXPECT_FALSE(model_of_layers(0, 64, Dtype::bf16));
}

TEST(Model, OfLayersIsAGpt2OfAnotherWidth) {
  EXPECT_EQ(model_of_layers(12, 768, Dtype::bf16)->elements(), model_by_name("gpt2", Dtype::bf16)->elements());
}

}  // namespace
}  // namespace orlop::bench
