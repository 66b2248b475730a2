// A small model and its gradients, for tests that drive whole engines.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "zero3/engine.hpp"

namespace orlop::zero3::testing {

// A directory that is there as long as this object.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "orlop-test-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] bool holds_files() const {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path_)) {
      if (entry.is_regular_file()) return true;
    }
    return false;
  }

 private:
  std::filesystem::path path_;
};

inline std::vector<ParamSpec> small_model(Dtype dtype) {
  return {{"embedding", dtype, 2'500'000, 0, 0}, {"norm.weight", dtype, 1000, 1, 1}, {"up", dtype, 700'001, 0, 1},
          {"norm.bias", dtype, 33, 1, 1},        {"head", dtype, 2'000'003, 0, 2}};
}

// And a frozen parameter.
inline std::vector<ParamSpec> model_with_frozen(Dtype dtype) {
  auto params = small_model(dtype);
  params.push_back({"adapter.base", dtype, 300'000, 0, 3, Training::frozen});
  return params;
}

inline std::string nvme_config(const std::filesystem::path& path, const std::string& more = "") {
  return R"({"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "nvme", "nvme_path": ")" +
         path.string() + R"("}})" + more + "}";
}

inline Result<std::unique_ptr<Engine>> open_engine(const std::string& config, std::vector<ParamSpec> params) {
  EngineOptions options;
  TRY_ASSIGN(options.config, resolve_config(config, 1));
  TRY_ASSIGN(auto engine, Engine::open(std::move(options)));
  for (ParamSpec& param : params) TRY(engine->register_param(std::move(param)));
  TRY(engine->commit());
  return engine;
}

// Null, and a failure of the test, where it cannot be opened.
inline std::unique_ptr<Engine> open(const std::string& config, const std::vector<ParamSpec>& params) {
  auto engine = open_engine(config, params);
  EXPECT_TRUE(engine) << engine.error().message;
  return engine ? std::move(*engine) : nullptr;
}

// The next of the values that exercise many exponents (Steele et al.'s SplitMix64).
inline float next_value(std::uint64_t& state, float scale) {
  std::uint64_t z = (state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  z ^= z >> 31;
  const float fraction = static_cast<float>(static_cast<std::int32_t>(z)) * 0x1p-31f;
  return scale * fraction / static_cast<float>(1u << (z >> 61));
}

// The same for the same seed. Each value is made once and for all: a third of what tests of whole engines did with a sanitizer
// was to make values anew. The seed says where in the row they begin.
inline std::vector<float> random_values(std::uint64_t count, unsigned seed, float scale) {
  struct Row {
    std::uint64_t state = 0;
    std::vector<float> values;
  };
  static std::mutex mutex;
  static std::map<float, Row> rows;  // by scale
  constexpr std::uint64_t kBeginnings = 1'000'003;
  const std::uint64_t first = seed * 2'654'435'761u % kBeginnings;
  const std::lock_guard lock(mutex);
  Row& row = rows[scale];
  row.values.reserve(kBeginnings + count);
  while (row.values.size() < first + count) row.values.push_back(next_value(row.state, scale));
  const float* const begin = row.values.data() + first;
  return {begin, begin + count};
}

inline void write_initial(Engine& engine, const std::vector<ParamSpec>& params) {
  for (std::uint32_t id = 0; id < params.size(); ++id) {
    const auto values = random_values(params[id].numel, 1000 + id, 0.1f);
    ASSERT_TRUE(engine.write_plane(id, Plane::param, {0, values.size()}, Dtype::f32, values.data()));
  }
}

inline void give_gradients(Engine& engine, const std::vector<ParamSpec>& params, unsigned seed) {
  for (std::uint32_t id = static_cast<std::uint32_t>(params.size()); id-- > 0;) {
    if (params[id].training == Training::frozen) continue;
    const auto gradient = random_values(params[id].numel, seed * 100 + id, 0.01f);
    const auto taken = engine.grad_ready(id, gradient.data(), Dtype::f32, {});
    ASSERT_TRUE(taken) << taken.error().message;
  }
}

inline Result<> save(Engine& engine, SaveOptions options) {
  TRY(engine.save_begin(options));
  return engine.checkpoint_wait(-1);
}

inline Result<> save(Engine& engine, const std::filesystem::path& directory) {
  SaveOptions options;
  options.directory = directory.string();
  return save(engine, std::move(options));
}

inline Result<StepReport> step(Engine& engine) {
  TRY(engine.step_begin(1));
  return engine.step_wait(-1);
}

inline void train(Engine& engine, const std::vector<ParamSpec>& params, unsigned steps, unsigned micro_batches = 1) {
  for (unsigned s = 0; s < steps; ++s) {
    for (unsigned m = 0; m < micro_batches; ++m) {
      give_gradients(engine, params, s * 10 + m);
      ASSERT_TRUE(engine.backward_end());
    }
    const auto report = step(engine);
    ASSERT_TRUE(report) << report.error().message;
    ASSERT_FALSE(report->skipped);
  }
}

}  // namespace orlop::zero3::testing
