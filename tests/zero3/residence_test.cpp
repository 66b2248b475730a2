// Engines that have room in memory for a part of what is offloaded.
#include "zero3/residence.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "zero3/saved_checkpoint.hpp"
#include "zero3/training.hpp"

namespace orlop::zero3 {
namespace {

using nlohmann::json;
using namespace orlop::zero3::testing;

struct Offloaded {
  bool states;
  bool params;
};

std::string config_of(const TemporaryDirectory& directory, Offloaded offloaded, const json& memory) {
  const auto device = [&](bool on_nvme) {
    return on_nvme ? json{{"device", "nvme"}, {"nvme_path", directory.path().string()}} : json{{"device", "cpu"}};
  };
  return json{{"zero_optimization",
               {{"stage", 3},
                {"stage3_param_persistence_threshold", 0},
                {"stage3_prefetch_bucket_size", 0},  // so that a step's traffic is its own
                {"offload_optimizer", device(offloaded.states)},
                {"offload_param", device(offloaded.params)}}},
              {"orlop", {{"memory", memory}}}}
      .dump();
}

double pinned_fraction(Engine& engine) { return json::parse(engine.describe()).at("memory").at("pinned_fraction"); }

// Every unit in the store once, as forward or backward would.
void fetch_all(Engine& engine, std::size_t params) {
  for (std::uint32_t id = 0; id < params; ++id) {
    const std::uint32_t unit = engine.place(id).value().first;
    const Unit info = engine.unit(unit).value();
    if (info.home != Home::store || info.params.front() != id) continue;
    std::vector<std::byte> memory(info.content * bytes_of(info.dtype));
    const auto fetched = engine.unshard(unit, Use::forward, memory.data(), {});
    ASSERT_TRUE(fetched) << fetched.error().message;
    ASSERT_TRUE(engine.reshard(unit, AfterUse::given_up));
  }
}

void train_fetching(Engine& engine, const std::vector<ParamSpec>& params, unsigned steps) {
  for (unsigned s = 0; s < steps; ++s) {
    fetch_all(engine, params.size());
    train(engine, params, 1);
  }
}

// As on a GPU: parameters live away from it, but not on a drive.
TEST(Residence, ParametersOffloadedToTheHostAreThereWhereverTheirStatesAre) {
  std::vector<ParamSpec> params = small_model(Dtype::bf16);
  for (ParamSpec& param : params) param.home = Home::store;
  const UnitPlan plan = plan_units(params, kUnitElements).value();
  const auto blocks = cut_blocks(plan, 0, 1);
  const swap::PlaneSet param = {swap::Plane::param};
  for (const char* states : {"cpu", "nvme"}) {
    const json zero = {{"stage", 3},
                       {"offload_param", {{"device", "cpu"}}},
                       {"offload_optimizer", {{"device", states}, {"nvme_path", "/x"}}}};
    const Config config = resolve_config(json{{"zero_optimization", zero}}.dump(), 1).value();
    const auto uses = block_uses(config, plan, blocks, kernels::Optimizer::adam);
    for (const BlockUse& use : uses) {
      EXPECT_TRUE(use.fetched.empty()) << "from the store";
      EXPECT_EQ(use.offloaded, std::string(states) == "nvme" ? use.spec.planes - param : swap::PlaneSet{});
    }
    EXPECT_EQ(fetched_blocks(uses, least_residence(uses)), 0u);
  }
}

class ResidenceOf : public ::testing::TestWithParam<Dtype> {};

constexpr Offloaded kEverywhere[] = {{true, false}, {true, true}, {false, true}};

TEST_P(ResidenceOf, IsNoMatterToTheBits) {
  const auto params = model_with_frozen(GetParam());
  const auto in_memory = open("{}", params);
  write_initial(*in_memory, params);
  train_fetching(*in_memory, params, 3);
  const std::uint64_t expected = in_memory->digest().value();
  for (const Offloaded offloaded : kEverywhere) {
    for (const double pinned : {0.0, 0.4, 1.0}) {
      const TemporaryDirectory directory;
      const auto engine = open(config_of(directory, offloaded, {{"pinned", pinned}}), params);
      write_initial(*engine, params);
      train_fetching(*engine, params, 3);
      EXPECT_EQ(engine->digest().value(), expected) << offloaded.states << offloaded.params << ", pinned " << pinned;
      EXPECT_NEAR(pinned_fraction(*engine), pinned, 0.25) << "whole blocks, of which there are few here";
      EXPECT_EQ(engine->stats().nvme_bytes == 0, pinned == 1.0);
    }
  }
}

TEST_P(ResidenceOf, SavesAsMuchTrafficAsItSays) {
  const auto params = model_with_frozen(GetParam());
  for (const Offloaded offloaded : kEverywhere) {
    std::uint64_t whole = 0;
    for (const double pinned : {0.0, 0.3, 0.7, 1.0}) {
      const TemporaryDirectory directory;
      const auto engine = open(config_of(directory, offloaded, {{"pinned", pinned}}), params);
      write_initial(*engine, params);
      train(*engine, params, 1);
      ASSERT_TRUE(engine->drain(-1));
      const EngineStats before = engine->stats();
      fetch_all(*engine, params.size());
      fetch_all(*engine, params.size());
      train(*engine, params, 1);
      ASSERT_TRUE(engine->drain(-1));
      const EngineStats after = engine->stats();
      const std::uint64_t moved =
          after.nvme_read_bytes - before.nvme_read_bytes + after.nvme_write_bytes - before.nvme_write_bytes;
      if (pinned == 0) whole = moved;
      const double expected = static_cast<double>(whole) * (1 - pinned_fraction(*engine));
      EXPECT_NEAR(static_cast<double>(moved), expected, 0.002 * static_cast<double>(whole) + 10'000)
          << offloaded.states << offloaded.params << ", pinned " << pinned;
    }
  }
}

TEST_P(ResidenceOf, FollowsFromTheBudgetAndStaysWithinIt) {
  const TemporaryDirectory directory;
  const auto params = model_with_frozen(GetParam());
  const std::uint64_t everything = open("{}", params)->stats().host_bytes;
  double before = -1;
  for (const double share : {0.75, 0.9, 1.0}) {
    const auto budget = static_cast<std::uint64_t>(share * static_cast<double>(everything));
    const json memory = {{"host", budget}, {"pinned", nullptr}};
    auto config = json::parse(config_of(directory, {true, false}, memory));
    config["zero_optimization"]["offload_optimizer"]["buffer_count"] = 3;
    const auto engine = open_engine(config.dump(), params);
    if (!engine) {
      EXPECT_EQ(engine.error().status, ORLOP_NO_MEMORY);
      continue;
    }
    EXPECT_LE((*engine)->stats().host_bytes, budget);
    EXPECT_GE(pinned_fraction(**engine), before);
    before = pinned_fraction(**engine);
  }
  EXPECT_EQ(before, 1) << "there is room for everything";
}

TEST_P(ResidenceOf, MayChangeFromOneCheckpointToTheNextRun) {
  const auto params = model_with_frozen(GetParam());
  const TemporaryDirectory store;
  const TemporaryDirectory checkpoints;
  const std::string directory = (checkpoints.path() / "one").string();
  for (const Offloaded offloaded : kEverywhere) {
    const auto engine = open(config_of(store, offloaded, {{"pinned", 0.5}}), params);
    write_initial(*engine, params);
    train(*engine, params, 2);
    const auto saved = save(*engine, directory);
    ASSERT_TRUE(saved) << saved.error().message;
    ASSERT_TRUE(verify_checkpoint(directory, 0, [](auto, auto) { return true; }));
    train(*engine, params, 2);
    for (const auto& [to, pinned] : {std::pair(Offloaded{false, false}, 0.0), {Offloaded{true, true}, 0.0},
                                     {Offloaded{true, false}, 0.3}, {Offloaded{false, true}, 0.8}}) {
      const auto resumed = open(config_of(store, to, {{"pinned", pinned}}), params);
      ASSERT_TRUE(resumed->load_begin(directory, LoadWhat::everything));
      const auto loaded = resumed->checkpoint_wait(-1);
      ASSERT_TRUE(loaded) << loaded.error().message;
      train(*resumed, params, 2);
      EXPECT_EQ(resumed->digest().value(), engine->digest().value())
          << offloaded.states << offloaded.params << " to " << to.states << to.params;
    }
  }
}

TEST_P(ResidenceOf, ACheckpointSavedBesideTrainingHoldsTheStateOfItsMoment) {
  const auto params = model_with_frozen(GetParam());
  const TemporaryDirectory store;
  const TemporaryDirectory checkpoints;
  const std::string directory = (checkpoints.path() / "one").string();
  const auto engine = open(config_of(store, {true, true}, {{"pinned", 0.5}}), params);
  write_initial(*engine, params);
  train(*engine, params, 1);
  const std::uint64_t then = engine->digest().value();
  SaveOptions options;
  options.directory = directory;
  options.bytes_per_second = 40'000'000;
  ASSERT_TRUE(engine->save_begin(options));
  train(*engine, params, 1);
  ASSERT_TRUE(engine->checkpoint_wait(-1));
  const auto resumed = open("{}", params);
  ASSERT_TRUE(resumed->load_begin(directory, LoadWhat::everything));
  ASSERT_TRUE(resumed->checkpoint_wait(-1));
  EXPECT_EQ(resumed->digest().value(), then);
}

INSTANTIATE_TEST_SUITE_P(Dtypes, ResidenceOf, ::testing::Values(Dtype::f32, Dtype::bf16, Dtype::f16),
                         [](const auto& dtype) { return std::string(name_of(dtype.param)); });

}  // namespace
}  // namespace orlop::zero3
