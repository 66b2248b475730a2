// Units of the store on their way to where the model computes: what the limits of a configuration do to them, seen through
// a program that does what the engine says.
#include <fstream>
#include <map>
#include <random>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/bytes.hpp"
#include "base/log.hpp"
#include "rounds.hpp"
#include "zero3/program.hpp"

namespace orlop::zero3 {
namespace {

using ::testing::HasSubstr;
using namespace orlop::zero3::testing;
using nlohmann::json;

constexpr std::uint64_t kElements = 1'100'000;  // of a layer, too large to share a unit
constexpr std::size_t kLayers = 8;

std::vector<ParamSpec> layers(Dtype dtype = Dtype::bf16) {
  std::vector<ParamSpec> params;
  for (int i = 0; i < static_cast<int>(kLayers); ++i) {
    params.push_back({"layer" + std::to_string(i) + ".weight", dtype, kElements, 0, i});
  }
  return params;
}

// More of zero_optimization, of the block orlop, of offload_param.
std::string config(const TemporaryDirectory& directory, const std::string& zero = "",
                   const std::string& own = R"("trace": true)", const std::string& param = "",
                   std::uint64_t persistence = 0) {
  return R"({"gradient_clipping": 0, "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": )" +
         std::to_string(persistence) + R"(, "offload_param": {"device": "nvme")" + param + R"(},
             "offload_optimizer": {"device": "nvme", "nvme_path": ")" +
         directory.path().string() + R"("})" + zero + R"(}, "orlop": {)" + own + "}}";
}

std::string max_live(std::uint64_t elements) {
  return fmt::format(R"(, "stage3_max_live_parameters": {})", elements);
}

std::unique_ptr<Engine> initialised(const std::string& text, const std::vector<ParamSpec>& params) {
  auto engine = open(text, params);
  if (engine) write_initial(*engine, params);
  return engine;
}

// By name: events of the lane on which units come and go, since the engine was opened.
std::map<std::string, std::size_t> events(Engine& engine, const TemporaryDirectory& directory) {
  const std::string path = (directory.path() / "trace.json").string();
  EXPECT_TRUE(engine.write_trace(path));
  std::ifstream file(path);
  std::map<std::string, std::size_t> counts;
  const json trace = json::parse(file);
  for (const json& event : trace["traceEvents"]) {
    if (event.value("cat", "") == "unshard") ++counts[event["name"]];
  }
  std::filesystem::remove(path);
  return counts;
}

// What a third step, in which everything is known, does to units.
std::map<std::string, std::size_t> events_of_a_step(const std::string& zero, const std::string& own = R"("trace": true)",
                                                    const std::string& param = "") {
  const TemporaryDirectory directory;
  const auto params = layers();
  const auto engine = initialised(config(directory, zero, own, param), params);
  Program program(*engine, params.size());
  program.step(params, 1);
  program.step(params, 2);
  auto before = events(*engine, directory);
  program.step(params, 3);
  auto counts = events(*engine, directory);
  for (auto& [name, count] : counts) count -= before[name];
  return counts;
}

// ---- The same bits, within the bound ----

class UnitFlowOf : public ::testing::TestWithParam<Dtype> {};

TEST_P(UnitFlowOf, TrainsToTheSameBitsWithinEveryLimit) {
  const auto params = layers(GetParam());
  const auto in_memory = initialised(R"({"gradient_clipping": 0})", params);
  for (unsigned s = 1; s <= 3; ++s) train(*in_memory, params, 1);
  const std::uint64_t unit = params.front().numel + 1024;
  const std::uint64_t half = kLayers / 2 * unit;
  struct Limits {
    std::uint64_t live;
    const char* ahead;
    const char* queue;
  };
  for (const auto& [limit, ahead, queue] : {Limits{0, "0", "threads"}, {0, "5e7", "threads"}, {half, "0", "threads"},
                                            {half, "5e7", "threads"}, {half, "5e7", "uring"}, {half, "5e7", "aio"},
                                            {kLayers * unit, "5e7", "threads"}}) {
    SCOPED_TRACE(fmt::format("{} live, {} ahead, {}", limit, ahead, queue));
    const TemporaryDirectory directory;
    const auto engine = initialised(config(directory, max_live(limit) + R"(, "stage3_prefetch_bucket_size": )" + ahead,
                                    std::string(R"("queue": ")") + queue + "\""), params);
    Program program(*engine, params.size());
    for (unsigned s = 0; s < 3; ++s) {
      program.forward();
      program.backward();
      train(*engine, params, 1);
    }
    EXPECT_EQ(engine->digest().value(), in_memory->digest().value());
    EXPECT_LE(program.most_kept(), limit);
    EXPECT_LE(program.most_live(), std::max(limit, unit));
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, UnitFlowOf, ::testing::Values(Dtype::f32, Dtype::bf16, Dtype::f16),
                         [](const auto& instance) { return std::string(name_of(instance.param)); });

TEST(UnitFlow, HoldsItsBoundWhateverIsUsed) {
  const auto params = layers();
  for (unsigned seed = 1; seed <= rounds(5, 2); ++seed) {
    SCOPED_TRACE(seed);
    const TemporaryDirectory directory;
    const std::uint64_t limit = (seed % 4) * 1'101'000 + 5;
    const auto engine = initialised(config(directory, max_live(limit)), params);
    Program program(*engine, params.size());
    std::mt19937 random(seed);
    for (unsigned pass = 0; pass < 4; ++pass) {
      for (int i = 0; i < 30; ++i) {
        const auto unit = static_cast<std::uint32_t>(random() % kLayers);
        const auto beside = static_cast<std::uint32_t>(random() % kLayers);
        program.begin(unit, static_cast<Use>(random() % 4));
        program.expect_values(params, unit);
        if (beside != unit) program.use(beside, Use::forward);  // inside, as a module's in its parent
        program.end(unit);
      }
      train(*engine, params, 1);
    }
    EXPECT_LE(program.most_kept(), std::max<std::uint64_t>(limit, 2 * 1'101'000));
    EXPECT_LE(program.live_units() * kElements, limit);
  }
}

// ---- Hits, and what an update does to them ----

TEST(UnitFlow, AUnitThatStayedIsUsedAgainWithoutReading) {
  const TemporaryDirectory directory;
  const auto params = layers();
  const auto engine = initialised(config(directory), params);
  Program program(*engine, params.size());
  program.forward();
  ASSERT_TRUE(engine->drain(-1));
  const auto before = engine->stats();
  EXPECT_EQ(before.unit_fetches, kLayers);
  EXPECT_EQ(before.live_bytes, kLayers * engine->unit(0)->content * 2);
  program.backward();
  const auto after = engine->stats();
  EXPECT_EQ(after.nvme_read_bytes, before.nvme_read_bytes);
  EXPECT_EQ(after.unit_fetches, kLayers);
  EXPECT_EQ(after.unit_hits, kLayers);
}

class RenewedUnits : public ::testing::TestWithParam<Dtype> {};

TEST_P(RenewedUnits, HaveTheirNewValuesAfterAStepAndAreNotReadAgain) {
  const TemporaryDirectory directory;
  const auto params = layers(GetParam());
  const auto engine = initialised(config(directory), params);
  Program program(*engine, params.size());
  for (unsigned s = 1; s <= 2; ++s) {
    program.step(params, s);
    EXPECT_EQ(program.live_units(), kLayers);
    for (const std::uint32_t unit : program.units()) program.expect_values(params, unit);
  }
  EXPECT_EQ(engine->stats().unit_fetches, kLayers);
}

INSTANTIATE_TEST_SUITE_P(Dtypes, RenewedUnits, ::testing::Values(Dtype::f32, Dtype::bf16, Dtype::f16),
                         [](const auto& instance) { return std::string(name_of(instance.param)); });

TEST(UnitFlow, WhatIsWrittenOrLoadedIsReadAgain) {
  const TemporaryDirectory directory;
  const TemporaryDirectory checkpoints;
  const auto params = layers();
  const auto engine = initialised(config(directory), params);
  ASSERT_TRUE(save(*engine, checkpoints.path() / "one"));
  Program program(*engine, params.size());
  program.forward();
  const std::vector<float> ones(kElements, 1);
  ASSERT_TRUE(engine->write_plane(3, Plane::param, {0, kElements}, Dtype::f32, ones.data()));
  program.forward(Use::evaluation);
  program.expect_values(params, 3);
  EXPECT_EQ(engine->stats().unit_fetches, kLayers + 1);
  ASSERT_TRUE(engine->load_begin((checkpoints.path() / "one").string(), LoadWhat::everything));
  ASSERT_TRUE(engine->checkpoint_wait(-1));
  program.forward();
  for (const std::uint32_t unit : program.units()) program.expect_values(params, unit);
  EXPECT_EQ(engine->stats().unit_fetches, 2 * kLayers + 1);
}

TEST(UnitFlow, AUnitThatIsGivenUpIsNotThereWhateverWasPlanned) {
  const TemporaryDirectory directory;
  const auto params = layers();
  const auto engine = initialised(config(directory), params);
  std::vector<std::byte> memory(2 * engine->unit(0)->content);
  ASSERT_TRUE(engine->unshard(0, Use::forward, memory.data(), {}));
  EXPECT_FALSE(engine->reshard(0, AfterUse::given_up).value());
  EXPECT_EQ(engine->stats().live_bytes, 0u);
  ASSERT_TRUE(engine->unshard(0, Use::forward, memory.data(), {}));
  EXPECT_EQ(engine->stats().unit_fetches, 2u);
}

// ---- Every key, in the trace ----

TEST(UnitFlowKeys, MaxLiveParametersIsABoundThatEvicts) {
  auto all = events_of_a_step("");
  EXPECT_EQ(all["unshard"], 0u);
  EXPECT_EQ(all["reuse"], 2 * kLayers);
  auto half = events_of_a_step(max_live(kLayers / 2 * 1'101'000));
  EXPECT_GT(half["unshard"], 0u);
  EXPECT_LT(half["unshard"], 2 * kLayers - 1);
  EXPECT_EQ(half["unshard"] + half["reuse"], 2 * kLayers);
  auto none = events_of_a_step(max_live(0));
  EXPECT_EQ(none["unshard"], 2 * kLayers);
  EXPECT_EQ(none["keep"], 0u);
}

TEST(UnitFlowKeys, MaxReuseDistanceReleasesWhatIsUsedLater) {
  auto near = events_of_a_step(R"(, "stage3_max_reuse_distance": 2300000)");
  EXPECT_EQ(near["reuse"], 4u) << "the turn of forward to backward, its neighbour, and both where steps meet";
  EXPECT_EQ(events_of_a_step(R"(, "stage3_max_reuse_distance": 1e12)")["unshard"], 0u);
}

TEST(UnitFlowKeys, MaxInCpuBoundsWhatHostMemoryHolds) {
  auto limited = events_of_a_step("", R"("trace": true)", R"(, "max_in_cpu": 2300000)");
  EXPECT_GT(limited["unshard"], kLayers);
  EXPECT_EQ(events_of_a_step("", R"("trace": true)", R"(, "max_in_cpu": 1e9)")["unshard"], 0u);
}

TEST(UnitFlowKeys, ParamPersistenceThresholdKeepsSmallOnesOutOfTheStore) {
  const TemporaryDirectory directory;
  const auto params = layers();
  EXPECT_EQ(stored_units(*initialised(config(directory), params), params.size()).size(), kLayers);
  EXPECT_TRUE(stored_units(*initialised(config(directory, "", "", "", kElements), params), params.size()).empty());
}

TEST(UnitFlowKeys, ModelPersistenceThresholdBoundsThem) {
  const TemporaryDirectory directory;
  const auto params = layers();
  const auto engine = initialised(config(directory, R"(, "stage3_model_persistence_threshold": 2200000)", "", "", kElements), params);
  EXPECT_EQ(stored_units(*engine, params.size()).size(), kLayers - 2);
}

// Once nothing is read any more.
std::uint64_t bytes_read(Engine& engine) {
  for (std::uint64_t before = UINT64_MAX;;) {
    const std::uint64_t now = engine.stats().nvme_read_bytes;
    if (now == before) return now;
    before = now;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

// Units that are read while the first is used.
std::uint64_t units_read(const std::string& zero, const std::string& param = "") {
  const TemporaryDirectory directory;
  const auto params = layers();
  const auto engine = initialised(config(directory, max_live(0) + zero, R"("trace": true)", param), params);
  const std::uint64_t before = bytes_read(*engine);
  Program program(*engine, params.size());
  program.use(0, Use::forward);
  return (bytes_read(*engine) - before + kElements) / (2 * kElements);  // rounded
}

TEST(UnitFlowKeys, PrefetchBucketSizeIsHowFarIsReadAhead) {
  const std::string buffers = R"(, "buffer_count": 8)";
  EXPECT_EQ(units_read(R"(, "stage3_prefetch_bucket_size": 0)", buffers), 1u);
  EXPECT_EQ(units_read(R"(, "stage3_prefetch_bucket_size": 1000)", buffers), 2u) << "one unit always";
  EXPECT_EQ(units_read(R"(, "stage3_prefetch_bucket_size": 3400000)", buffers), 4u);
}

TEST(UnitFlowKeys, BufferCountIsHowMuchIsReadAheadAtOnce) {
  EXPECT_EQ(units_read("", R"(, "buffer_count": 2)"), 2u) << "one read, one for what is wanted now";
  EXPECT_EQ(units_read("", R"(, "buffer_count": 5)"), 5u);
}

TEST(UnitFlowKeys, SubGroupSizeAndBufferSizeBoundWhatMovesAtOnce) {
  const auto params = layers();
  const auto blocks = [&](const std::string& zero, const std::string& param) {
    const TemporaryDirectory directory;
    const auto engine = initialised(config(directory, zero, R"("trace": true)", param), params);
    return json::parse(engine->describe())["blocks"].get<std::size_t>();
  };
  EXPECT_EQ(blocks("", ""), kLayers);
  EXPECT_EQ(blocks(R"(, "sub_group_size": 600000)", ""), 2 * kLayers);
  EXPECT_EQ(blocks("", R"(, "buffer_size": 300000)"), 4 * kLayers);
  EXPECT_EQ(blocks(R"(, "sub_group_size": 1)", ""), 17 * kLayers) << "raised to 65536";
}

// ---- Orders ----

TEST(UnitFlowOrders, AFirstPassInTheOrderOfRegistrationIsNotCold) {
  const TemporaryDirectory directory;
  const auto params = layers();
  const auto engine = initialised(config(directory, max_live(0)), params);
  Program program(*engine, params.size());
  for (unsigned s = 1; s <= 3; ++s) program.step(params, s);
  EXPECT_EQ(engine->stats().unexpected_uses, 0u);
  EXPECT_LE(json::parse(engine->describe())["live"]["plans_made"], 2);
}

TEST(UnitFlowOrders, AnotherOrderIsServedCountedAndExpectedNext) {
  const TemporaryDirectory directory;
  const auto params = layers();
  const auto engine = initialised(config(directory, max_live(3 * 1'101'000)), params);
  Program program(*engine, params.size());
  const auto pass = [&](const std::vector<std::uint32_t>& units) {
    for (const std::uint32_t unit : units) {
      program.begin(unit, Use::forward);
      program.expect_values(params, unit);
      program.end(unit);
    }
    train(*engine, params, 1);
    return engine->stats().unexpected_uses;
  };
  pass({0, 1, 2, 3});
  EXPECT_EQ(pass({0, 1, 2, 3}), 0u);
  EXPECT_EQ(pass({0, 5, 2, 3}), 2u) << "5 came, 1 did not";
  EXPECT_EQ(pass({0, 5, 2, 3}), 2u);
  const json units = json::parse(engine->describe())["units"];
  EXPECT_EQ(units[5]["uses"]["unexpected"], 1);
  EXPECT_EQ(units[1]["uses"]["unexpected"], 1);
  EXPECT_EQ(units[0]["uses"]["unexpected"], 0);
}

TEST(UnitFlowOrders, EvaluationsAndAccessesAreNotPartOfAPass) {
  const TemporaryDirectory directory;
  const auto params = layers();
  const auto engine = initialised(config(directory, max_live(2 * 1'101'000)), params);
  Program program(*engine, params.size());
  program.step(params, 1);
  program.step(params, 2);
  const std::uint64_t plans = json::parse(engine->describe())["live"]["plans_made"];
  for (unsigned s = 3; s <= 5; ++s) {
    program.forward();
    for (int token = 0; token < 3; ++token) program.forward(Use::evaluation);  // in the middle of a step
    program.backward();
    program.use(7, Use::access);
    give_gradients(*engine, params, s);
    ASSERT_TRUE(engine->backward_end());
    ASSERT_TRUE(step(*engine));
    program.forward(Use::evaluation);
  }
  EXPECT_EQ(engine->stats().unexpected_uses, 0u);
  EXPECT_LE(json::parse(engine->describe())["live"]["plans_made"].get<std::uint64_t>(), plans + 3);
}

TEST(UnitFlowOrders, AnAccessIsNotBoundAndSaysSo) {
  const TemporaryDirectory directory;
  const auto params = layers();
  const auto engine = initialised(config(directory, max_live(0)), params);
  std::vector<std::string> lines;
  const auto add = [](void* all, int32_t, const char* line) { static_cast<std::vector<std::string>*>(all)->push_back(line); };
  ASSERT_TRUE(set_log_callback(add, &lines, ORLOP_LOG_WARNING));
  Program program(*engine, params.size());
  for (const std::uint32_t unit : program.units()) program.begin(unit, Use::access);
  EXPECT_EQ(program.live_units(), kLayers);
  for (const std::uint32_t unit : program.units()) program.end(unit);
  ASSERT_TRUE(set_log_callback(nullptr, nullptr, ORLOP_LOG_OFF));
  EXPECT_EQ(program.live_units(), 0u);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines.front(), HasSubstr("outside a pass"));
}

TEST(UnitFlowOrders, MicroBatchesAreEachAPass) {
  const TemporaryDirectory directory;
  const auto params = layers();
  const std::string several = R"({"gradient_accumulation_steps": 3, )";
  const auto engine = initialised(several + config(directory, max_live(2 * 1'101'000)).substr(1), params);
  const auto in_memory = initialised(several + R"("gradient_clipping": 0})", params);
  Program program(*engine, params.size());
  for (unsigned s = 1; s <= 2; ++s) {
    program.step(params, s, 3);
    for (unsigned m = 0; m < 3; ++m) {
      give_gradients(*in_memory, params, s * 10 + m);
      ASSERT_TRUE(in_memory->backward_end());
    }
    ASSERT_TRUE(step(*in_memory));
  }
  EXPECT_EQ(engine->stats().unexpected_uses, 0u);
  EXPECT_EQ(engine->digest().value(), in_memory->digest().value());
}

TEST(UnitFlowOrders, TheFirstStatesAreReadBeforeBackwardHasEnded) {
  const TemporaryDirectory directory;
  const auto params = layers();
  const auto engine = initialised(config(directory, max_live(0)), params);
  Program program(*engine, params.size());
  program.step(params, 1);
  program.forward();
  program.backward();
  ASSERT_TRUE(engine->drain(-1));
  const auto before = engine->stats().nvme_read_bytes;
  give_gradients(*engine, params, 2);
  ASSERT_TRUE(engine->drain(-1));
  EXPECT_GT(engine->stats().nvme_read_bytes, before);
}

// ---- Budgets ----

TEST(UnitFlowBudgets, WhatTheBudgetLeavesStaysInMemory) {
  const TemporaryDirectory directory;
  const auto params = layers();
  const std::uint64_t least = [&] {
    const auto engine = initialised(config(directory, max_live(0)), params);
    const std::uint64_t bytes = engine->stats().host_bytes;
    EXPECT_TRUE(engine->finish());
    return bytes;
  }();
  const std::uint64_t unit = 2 * 1'101'000;
  const std::string budget = fmt::format(R"("memory": {{"host": {}, "pinned": 0}})", least + 3 * unit);
  const auto engine = initialised(config(directory, "", budget), params);
  const auto stats = engine->stats();
  EXPECT_EQ(stats.host_bytes, least + 3 * unit);
  EXPECT_NEAR(static_cast<double>(stats.live_limit_bytes), 4.0 * unit, 1e5) << "the largest, and three more";
  Program program(*engine, params.size());
  program.step(params, 1);
  EXPECT_LE(program.most_live() * 2, stats.live_limit_bytes);
  EXPECT_GT(program.live_units(), 0u);
}

TEST(UnitFlowBudgets, TheLargestUnitHasToFitAndIsNamed) {
  const TemporaryDirectory directory;
  auto params = layers();
  params[4].numel = 3'000'000;
  const auto smallest = [&](std::uint64_t budget) {
    const std::string own = fmt::format(R"("memory": {{"host": {}}})", budget);
    return open_engine(config(directory, max_live(0), own), params);
  };
  const auto refused = smallest(1_MiB);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().status, ORLOP_NO_MEMORY);
  EXPECT_THAT(refused.error().message, HasSubstr("the largest unit of the store while in use (\"layer4.weight\") 6000000"));
  EXPECT_THAT(refused.error().message, HasSubstr("raise the budget"));
  EXPECT_FALSE(directory.holds_files());
}

TEST(UnitFlowBudgets, WhatIsHeldMeanwhileHasToFitBesideIt) {
  const TemporaryDirectory directory;
  auto params = layers();
  params[0].is_held = params[5].is_held = true;
  params[4].numel = 3'000'000;
  const auto engine = initialised(config(directory, max_live(0)), params);
  EXPECT_NEAR(static_cast<double>(engine->stats().live_limit_bytes), 2 * (2.0 * kElements + 3e6), 1e4);
  const auto refused = open_engine(config(directory, max_live(0), R"("memory": {"host": "1M"})"), params);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("(\"layer4.weight\") 6000000, what encloses it 44"));
}

// ---- Sizes ----

TEST(UnitFlowSizes, HundredsOfTinyModulesAreFewUnitsAndAnEmbeddingOfTwoGigabytesIsManyBlocks) {
  std::vector<ParamSpec> params;
  for (int i = 0; i < 400; ++i) params.push_back({"tiny" + std::to_string(i), Dtype::bf16, 20'000, 0, i});
  params.push_back({"embedding", Dtype::bf16, 1u << 30, 0, 400});
  for (ParamSpec& param : params) param.home = Home::store;
  const UnitPlan plan = plan_units(params).value();
  EXPECT_EQ(plan.units.size(), 5u);
  const auto blocks = cut_blocks(plan, 0, 1);
  EXPECT_EQ(std::ranges::count(blocks, plan.placements.back().unit, &Block::unit), 512);
  EXPECT_LE(std::ranges::count_if(blocks, [&](const Block& b) { return b.unit != plan.placements.back().unit; }), 8);
}

}  // namespace
}  // namespace orlop::zero3
