// Engines whose parameters live in the store between their uses.
#include <fstream>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rounds.hpp"
#include "zero3/program.hpp"

namespace orlop::zero3 {
namespace {

using ::testing::HasSubstr;
using namespace orlop::zero3::testing;

std::string stored_config(const TemporaryDirectory& directory, const std::string& zero = "", const std::string& more = "") {
  return R"({"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"},
             "offload_optimizer": {"device": "nvme", "nvme_path": ")" +
         directory.path().string() + R"("})" + zero + "}" + more + "}";
}

// A parameter by way of its unit, as a model would get it.
std::vector<std::byte> unsharded(Engine& engine, std::uint32_t id, std::uint64_t numel) {
  const auto [unit, first] = engine.place(id).value();
  const Unit info = engine.unit(unit).value();
  std::vector<std::byte> whole(info.content * bytes_of(info.dtype));
  const auto filled = engine.unshard(unit, Use::access, whole.data(), {});
  EXPECT_TRUE(filled) << filled.error().message;
  EXPECT_TRUE(engine.reshard(unit, AfterUse::given_up));
  const auto begin = whole.begin() + static_cast<std::ptrdiff_t>(first * bytes_of(info.dtype));
  return {begin, begin + static_cast<std::ptrdiff_t>(numel * bytes_of(info.dtype))};
}

// One pass forward and one backward over the stored units, of which none is kept.
void compute(Engine& engine, std::size_t params) {
  std::vector<std::uint32_t> units = stored_units(engine, params);
  const auto use = [&](std::uint32_t unit, Use kind) {
    const Unit info = engine.unit(unit).value();
    std::vector<std::byte> memory(info.content * bytes_of(info.dtype));
    ASSERT_TRUE(engine.unshard(unit, kind, memory.data(), {}));
    ASSERT_TRUE(engine.reshard(unit, AfterUse::given_up));
  };
  for (const std::uint32_t unit : units) use(unit, Use::forward);
  std::reverse(units.begin(), units.end());
  for (const std::uint32_t unit : units) use(unit, Use::backward);
}

class StoredParams : public ::testing::TestWithParam<Dtype> {
 protected:
  static std::uint64_t digest_after(const std::string& config, unsigned steps) {
    const auto params = model_with_frozen(GetParam());
    const auto engine = open(config, params);
    write_initial(*engine, params);
    for (unsigned s = 0; s < steps; ++s) {
      compute(*engine, params.size());
      train(*engine, params, 1);
    }
    return engine->digest().value();
  }
};

TEST_P(StoredParams, TrainToTheSameBitsAsInMemory) {
  const TemporaryDirectory directory;
  constexpr unsigned kSteps = rounds(3, 2);
  const std::uint64_t in_memory = digest_after("{}", kSteps);
  for (const char* queue : {"uring", "aio", "threads"}) {
    const std::string more = std::string(R"(, "orlop": {"queue": ")") + queue + "\"}";
    EXPECT_EQ(digest_after(stored_config(directory, "", more), kSteps), in_memory) << queue;
  }
  for (const char* limits : {R"(, "stage3_prefetch_bucket_size": 0)", R"(, "stage3_prefetch_bucket_size": 3000000)",
                             R"(, "stage3_param_persistence_threshold": 0)",
                             R"(, "stage3_param_persistence_threshold": 1000000)"}) {
    EXPECT_EQ(digest_after(stored_config(directory, limits), kSteps), in_memory) << limits;
  }
  EXPECT_FALSE(directory.holds_files());
}

TEST_P(StoredParams, AreWhatWasWrittenAndWhatAnUpdateMadeOfThem) {
  const TemporaryDirectory directory;
  const auto params = model_with_frozen(GetParam());
  const auto engine = open(stored_config(directory), params);
  write_initial(*engine, params);
  for (unsigned s = 0; s < 2; ++s) {
    for (std::uint32_t id = 0; id < params.size(); ++id) {
      if (!is_stored(*engine, id)) continue;
      std::vector<std::byte> read(params[id].numel * bytes_of(params[id].dtype));
      ASSERT_TRUE(engine->read_plane(id, Plane::param, {0, params[id].numel}, params[id].dtype, read.data()));
      EXPECT_EQ(unsharded(*engine, id, params[id].numel), read) << params[id].name << ", step " << s;
    }
    train(*engine, params, 1);
  }
}

TEST_P(StoredParams, AreNotCopiedIntoACheckpointAndGoOnFromIt) {
  const TemporaryDirectory store;
  const TemporaryDirectory checkpoints;
  const std::string directory = (checkpoints.path() / "one").string();
  const auto params = model_with_frozen(GetParam());
  const auto engine = open(stored_config(store, R"(, "stage3_param_persistence_threshold": 0)"), params);
  write_initial(*engine, params);
  train(*engine, params, 2);
  ASSERT_TRUE(save(*engine, directory));
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    EXPECT_LT(entry.file_size(), 200'000u) << entry.path();
  }
  train(*engine, params, 2);
  for (const std::string& config : {std::string("{}"), stored_config(store), nvme_config(store.path())}) {
    const auto resumed = open(config, params);
    ASSERT_TRUE(resumed->load_begin(directory, LoadWhat::everything));
    ASSERT_TRUE(resumed->checkpoint_wait(-1));
    train(*resumed, params, 2);
    EXPECT_EQ(resumed->digest().value(), engine->digest().value()) << config;
    float frozen_here = 0;
    float frozen_there = 1;
    ASSERT_TRUE(engine->read_plane(5, Plane::param, {299'999, 300'000}, Dtype::f32, &frozen_here));
    ASSERT_TRUE(resumed->read_plane(5, Plane::param, {299'999, 300'000}, Dtype::f32, &frozen_there));
    EXPECT_EQ(frozen_here, frozen_there);
  }
}

TEST_P(StoredParams, GoOnFromACheckpointOfParametersInMemory) {
  const TemporaryDirectory store;
  const TemporaryDirectory checkpoints;
  const std::string directory = (checkpoints.path() / "one").string();
  const auto params = model_with_frozen(GetParam());
  const auto engine = open("{}", params);
  write_initial(*engine, params);
  train(*engine, params, 2);
  ASSERT_TRUE(save(*engine, directory));
  const auto resumed = open(stored_config(store), params);
  ASSERT_TRUE(resumed->load_begin(directory, LoadWhat::everything));
  ASSERT_TRUE(resumed->checkpoint_wait(-1));
  EXPECT_EQ(resumed->digest().value(), engine->digest().value());
}

INSTANTIATE_TEST_SUITE_P(Dtypes, StoredParams, ::testing::Values(Dtype::f32, Dtype::bf16, Dtype::f16),
                         [](const auto& instance) { return std::string(name_of(instance.param)); });

TEST(StoredParamsOf, SmallParametersStayInMemoryUpToTheLimits) {
  const TemporaryDirectory directory;
  const auto params = small_model(Dtype::bf16);  // 2.5 M, 1000, 700001, 33, 2000003
  const auto by_default = open(stored_config(directory), params);
  EXPECT_TRUE(is_stored(*by_default, 0));
  EXPECT_FALSE(is_stored(*by_default, 1));
  EXPECT_TRUE(is_stored(*by_default, 2));
  ASSERT_TRUE(by_default->finish());
  const auto limited = open(stored_config(directory, R"(, "stage3_param_persistence_threshold": 1000000,
                                                       "stage3_model_persistence_threshold": 1010)"), params);
  EXPECT_FALSE(is_stored(*limited, 1));
  EXPECT_TRUE(is_stored(*limited, 2)) << "more than the model's limit";
  EXPECT_TRUE(is_stored(*limited, 3)) << "no room beside the first";
}

TEST(StoredParamsOf, NeedNoMemoryOfTheirOwn) {
  const TemporaryDirectory directory;
  const auto params = small_model(Dtype::bf16);
  const auto there = open(stored_config(directory, R"(, "stage3_prefetch_bucket_size": 0)"), params);
  const TemporaryDirectory other;
  const auto here = open(nvme_config(other.path()), params);
  const EngineStats stored = there->stats();
  const EngineStats kept = here->stats();
  EXPECT_NEAR(static_cast<double>(kept.model_bytes) - static_cast<double>(stored.model_bytes), 2 * 5'200'000.0, 50'000);
}

TEST(StoredParamsOf, MoveTwentyEightBytesPerParameterAndStepInBf16) {
  const TemporaryDirectory directory;
  const auto params = small_model(Dtype::bf16);
  const auto engine = open(stored_config(directory, R"(, "stage3_param_persistence_threshold": 0,
                                                      "stage3_max_live_parameters": 0)"), params);
  write_initial(*engine, params);
  const auto before = engine->stats();
  for (unsigned s = 0; s < 3; ++s) {
    compute(*engine, params.size());
    train(*engine, params, 1);
  }
  ASSERT_TRUE(engine->drain(-1));
  const EngineStats stats = engine->stats();
  const double per_step = static_cast<double>(stats.params) * 3;
  const auto read = static_cast<double>(stats.nvme_read_bytes - before.nvme_read_bytes);
  const auto written = static_cast<double>(stats.nvme_write_bytes - before.nvme_write_bytes);
  // Forward 2, backward 2, update 12 + 12; what has been read ahead for a next step is a step's first 4 to 10 MB.
  EXPECT_NEAR(read / per_step, 16, 0.8);
  EXPECT_NEAR(written / per_step, 12, 0.1);
}

TEST(StoredParamsOf, AFlippedByteIsFoundWhenTheUnitIsFetched) {
  const TemporaryDirectory directory;
  const auto params = small_model(Dtype::bf16);
  const auto engine = open(stored_config(directory, R"(, "stage3_prefetch_bucket_size": 0)"), params);
  write_initial(*engine, params);
  train(*engine, params, 1);
  ASSERT_TRUE(engine->drain(-1));
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory.path())) {
    if (entry.path().extension() != ".store") continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    std::vector<char> bytes(entry.file_size() - (1 << 18));
    file.seekg(1 << 18);
    file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    for (std::size_t i = 0; i < bytes.size(); i += 10'000) bytes[i] = static_cast<char>(bytes[i] ^ 1);
    file.seekp(1 << 18);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  const auto [unit, first] = engine->place(0).value();
  std::vector<std::byte> memory(engine->unit(unit).value().content * 2);
  const auto filled = engine->unshard(unit, Use::forward, memory.data(), {});
  ASSERT_FALSE(filled);
  EXPECT_EQ(filled.error().status, ORLOP_CORRUPT);
  EXPECT_THAT(filled.error().message, HasSubstr("plane param"));
  EXPECT_FALSE(engine->unshard(unit, Use::forward, memory.data(), {})) << "the engine has stopped";
}

TEST(StoredParamsOf, UnitsInMemoryAndUnknownOnesAreRefused) {
  const TemporaryDirectory directory;
  const auto params = small_model(Dtype::bf16);
  const auto engine = open(stored_config(directory), params);
  std::vector<std::byte> memory(1 << 20);
  const std::uint32_t in_memory = engine->place(1).value().first;
  EXPECT_THAT(engine->unshard(in_memory, Use::forward, memory.data(), {}).error().message, HasSubstr("use orlop_param_address"));
  EXPECT_THAT(engine->reshard(99, AfterUse::given_up).error().message, HasSubstr("on unit 99"));
  EXPECT_THAT(engine->address(0).error().message, HasSubstr("it lives in the store"));
  EXPECT_TRUE(engine->address(1));
}

}  // namespace
}  // namespace orlop::zero3
