// Imports: what is loaded from one is as if the engine had been given the values, wherever it keeps them.
#include "zero3/import.hpp"

#include <filesystem>
#include <limits>
#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "zero3/saved_checkpoint.hpp"
#include "zero3/training.hpp"

namespace orlop::zero3 {
namespace {

namespace fs = std::filesystem;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using namespace orlop::zero3::testing;

constexpr std::uint64_t kPiece = 300'001;  // a multiple of nothing

// The values of write_initial, in fp32.
Result<> import_params(const std::vector<ParamSpec>& params, const fs::path& directory) {
  TRY_ASSIGN(const auto import, Import::open({directory.string(), "", params}));
  for (std::uint32_t i = 0; i < params.size(); ++i) {
    const auto values = random_values(params[i].numel, 1000 + i, 0.1f);
    for (std::uint64_t at = 0; at < values.size(); at += kPiece) {
      const Range part{at, std::min<std::uint64_t>(at + kPiece, values.size())};
      TRY(import->write(i, part, Dtype::f32, values.data() + at));
    }
  }
  return import->complete();
}

std::vector<ParamSpec> model(Dtype dtype) {
  auto params = small_model(dtype);
  params.push_back({"frozen", dtype, 5000, 0, 3, Training::frozen});
  return params;
}

std::unique_ptr<Engine> open(const std::vector<ParamSpec>& params, const fs::path* nvme) {
  return testing::open(nvme == nullptr ? "{}" : nvme_config(*nvme), params);
}

Result<> load(Engine& engine, const fs::path& directory, Match match = Match::all) {
  TRY(engine.load_begin(directory.string(), LoadWhat::everything, match));
  return engine.checkpoint_wait(-1);
}

class ImportBits : public ::testing::TestWithParam<std::tuple<Dtype, bool>> {};

TEST_P(ImportBits, AreThoseOfAnEngineThatWasGivenTheValues) {
  const auto [dtype, on_nvme] = GetParam();
  const TemporaryDirectory nvme;
  const TemporaryDirectory checkpoints;
  const auto params = model(dtype);
  const auto imported = import_params(params, checkpoints.path() / "start");
  ASSERT_TRUE(imported) << imported.error().message;
  const auto expected = open(params, nullptr);
  write_initial(*expected, params);
  const std::uint64_t at_start = expected->digest().value();
  train(*expected, params, 2);

  const auto engine = open(params, on_nvme ? &nvme.path() : nullptr);
  for (unsigned steps : {0u, 1u}) {  // fresh, and with states that are to become zero
    train(*engine, params, steps);
    const auto loaded = load(*engine, checkpoints.path() / "start");
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(engine->digest().value(), at_start);
    EXPECT_EQ(engine->stats().steps, 0u);
  }
  std::vector<float> frozen(5000);
  std::vector<float> given(5000);
  ASSERT_TRUE(engine->read_plane(5, Plane::param, {0, 5000}, Dtype::f32, frozen.data()));
  ASSERT_TRUE(expected->read_plane(5, Plane::param, {0, 5000}, Dtype::f32, given.data()));
  EXPECT_EQ(frozen, given);
  train(*engine, params, 2);
  EXPECT_EQ(engine->digest().value(), expected->digest().value());
}

INSTANTIATE_TEST_SUITE_P(Tiers, ImportBits,
                         ::testing::Combine(::testing::Values(Dtype::f32, Dtype::bf16, Dtype::f16), ::testing::Bool()),
                         [](const auto& of) {
                           return fmt::format("{}_{}", name_of(std::get<0>(of.param)),
                                              std::get<1>(of.param) ? "nvme" : "host");
                         });

class Imported : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(import_params(params_, start())); }
  [[nodiscard]] fs::path start() const { return checkpoints_.path() / "start"; }

  std::vector<ParamSpec> params_ = model(Dtype::bf16);
  TemporaryDirectory checkpoints_;
};

const Progress kSilent = [](std::uint64_t, std::uint64_t) { return true; };

TEST_F(Imported, ItTakesTheParametersBytesAndNoMore) {
  std::uint64_t bytes = 0;
  std::uint64_t numel = 0;
  for (const auto& entry : fs::directory_iterator(start())) bytes += entry.file_size();
  for (const auto& param : params_) numel += param.numel;
  EXPECT_LT(bytes, numel * 2 + params_.size() * 4096 + 8192);
}

TEST_F(Imported, DamageIsFound) {
  ASSERT_TRUE(verify_checkpoint(start().string(), 0, kSilent));
  const auto data = start() / read_manifest(start().string(), 0).value().data_file;
  fs::resize_file(data, fs::file_size(data) - 4096);
  fs::resize_file(data, fs::file_size(data) + 4096);
  EXPECT_EQ(verify_checkpoint(start().string(), 0, kSilent).error().status, ORLOP_CORRUPT);
}

TEST_F(Imported, ItIsWrittenOutWhole) {
  const fs::path copy = checkpoints_.path() / "copy";
  ASSERT_TRUE(export_checkpoint(start().string(), 0, copy.string(), kSilent));
  EXPECT_TRUE(verify_checkpoint(copy.string(), 0, kSilent));
  EXPECT_TRUE(load(*open(params_, nullptr), copy));
}

TEST_F(Imported, WhatIsNotRegisteredIsRefusedUnlessItIsToBeLeftOut) {
  params_.erase(params_.begin());
  params_[1].training = Training::frozen;
  const auto engine = open(params_, nullptr);
  const auto refused = load(*engine, start());
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("(1 differences): it is of another model: \"embedding\" is only in"));
  EXPECT_TRUE(load(*engine, start(), Match::registered));
}

TEST_F(Imported, NothingIsWrittenOver) {
  const auto again = import_params(params_, start());
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().message, HasSubstr("it is not empty"));
  EXPECT_TRUE(verify_checkpoint(start().string(), 0, kSilent));
}

TEST(Import, WithoutRoomLeavesNothingAndSaysTheShortfall) {
  const TemporaryDirectory checkpoints;
  const fs::path directory = checkpoints.path() / "start";
  const std::uint64_t free = aio::free_bytes(checkpoints.path().string()).value();
  const auto refused = Import::open({directory.string(), "", {{"w", Dtype::f32, free / 4 + (1u << 28)}}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().status, ORLOP_NO_SPACE);
  EXPECT_THAT(refused.error().message, ContainsRegex("[0-9]+ bytes are needed, [0-9]+ too few are free"));
  EXPECT_FALSE(fs::exists(directory));
}

TEST(Import, RefusesValuesThatTheTypeHasNoRoomForButKeepsInfinities) {
  const TemporaryDirectory checkpoints;
  const fs::path directory = checkpoints.path() / "start";
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> values = {1, infinity, -infinity, 65504, 65520, 1};
  const auto import = Import::open({directory.string(), "", {{"w", Dtype::f16, 6}}}).value();
  EXPECT_TRUE(import->write(0, {0, 4}, Dtype::f32, values.data()));
  const auto refused = import->write(0, {4, 6}, Dtype::f32, values.data() + 4);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().status, ORLOP_INVALID_ARGUMENT);
  EXPECT_THAT(refused.error().message, HasSubstr("\"w\" (element 4)"));
  EXPECT_FALSE(import->complete());
  EXPECT_FALSE(import->write(0, {4, 5}, Dtype::f32, values.data()));
}

}  // namespace
}  // namespace orlop::zero3
