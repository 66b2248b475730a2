// Checkpoints of whole engines: what is loaded goes on as if nothing had happened, and what is damaged, missing or of
// another model is refused with the reason.
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <functional>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "zero3/engine.hpp"
#include "zero3/manifest.hpp"
#include "zero3/saved_checkpoint.hpp"
#include "zero3/training.hpp"

namespace orlop::zero3 {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using namespace orlop::zero3::testing;

Result<> save(Engine& engine, const fs::path& directory, std::vector<std::string> replaced = {}) {
  return testing::save(engine, {directory.string(), R"({"note": "mine"})", std::move(replaced), "", 0});
}

Result<> load(Engine& engine, const fs::path& directory, LoadWhat what = LoadWhat::everything,
              Match match = Match::all) {
  TRY(engine.load_begin(directory.string(), what, match));
  return engine.checkpoint_wait(-1);
}

// Steps `from` .. `to` - 1 of the same training, whoever takes them.
void train_steps(Engine& engine, const std::vector<ParamSpec>& params, unsigned from, unsigned to) {
  for (unsigned s = from; s < to; ++s) {
    give_gradients(engine, params, 77 + s);
    ASSERT_TRUE(engine.backward_end());
    ASSERT_TRUE(engine.step_begin(std::nullopt));
    const auto report = engine.step_wait(-1);
    ASSERT_TRUE(report) << report.error().message;
  }
}

std::vector<ParamSpec> model(Dtype dtype) {
  auto params = small_model(dtype);
  params.push_back({"frozen", dtype, 5000, 0, 3, Training::frozen});
  return params;
}

std::string config_of(Dtype dtype, const fs::path* nvme, const std::string& more = "") {
  std::string config = nvme == nullptr ? "{" : nvme_config(*nvme);
  if (nvme != nullptr) config.back() = ',';
  config += R"("gradient_clipping": 0.5)" + more;
  if (dtype == Dtype::f16) config += R"(, "fp16": {"enabled": true, "loss_scale_window": 2, "initial_scale_power": 4})";
  return config + "}";
}

struct Tiers {
  bool saved_on_nvme;
  bool loaded_on_nvme;
};

class CheckpointBits : public ::testing::TestWithParam<std::tuple<Dtype, Tiers>> {};

TEST_P(CheckpointBits, GoOnAsIfNothingHadHappened) {
  const auto [dtype, tiers] = GetParam();
  const TemporaryDirectory nvme;
  const TemporaryDirectory other;
  const TemporaryDirectory checkpoints;
  auto params = model(dtype);
  for (auto& param : params) param.numel = param.numel / 4 + 1;
  std::uint64_t expected = 0;
  {
    const auto engine = open(config_of(dtype, nullptr), params);
    write_initial(*engine, params);
    train_steps(*engine, params, 0, 5);
    expected = engine->digest().value();
  }
  {
    const auto engine = open(config_of(dtype, tiers.saved_on_nvme ? &nvme.path() : nullptr), params);
    write_initial(*engine, params);
    train_steps(*engine, params, 0, 3);
    const auto saved = save(*engine, checkpoints.path() / "three");
    ASSERT_TRUE(saved) << saved.error().message;
    train_steps(*engine, params, 3, 4);  // what is saved does not change with it
    ASSERT_TRUE(engine->finish());
  }
  const auto engine = open(config_of(dtype, tiers.loaded_on_nvme ? &other.path() : nullptr), params);
  train_steps(*engine, params, 50, 51);  // what was there before does not matter
  const auto loaded = load(*engine, checkpoints.path() / "three");
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(engine->stats().steps, 3u);
  train_steps(*engine, params, 3, 5);
  EXPECT_EQ(engine->digest().value(), expected);
}

std::string name_of_case(const ::testing::TestParamInfo<CheckpointBits::ParamType>& of) {
  const auto [dtype, tiers] = of.param;
  return fmt::format("{}_{}_{}", name_of(dtype), tiers.saved_on_nvme ? "nvme" : "host",
                     tiers.loaded_on_nvme ? "nvme" : "host");
}

INSTANTIATE_TEST_SUITE_P(Tiers, CheckpointBits,
                         ::testing::Combine(::testing::Values(Dtype::f32, Dtype::bf16, Dtype::f16),
                                            ::testing::Values(Tiers{false, false}, Tiers{false, true},
                                                              Tiers{true, false}, Tiers{true, true})),
                         name_of_case);

std::uint64_t file_bytes(const fs::path& directory) {
  std::uint64_t bytes = 0;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    if (entry.is_regular_file()) bytes += entry.file_size();
  }
  return bytes;
}

TEST(Checkpoint, CopiesNothingThatIsOnDisk) {
  const TemporaryDirectory nvme;
  const TemporaryDirectory checkpoints;
  const auto params = small_model(Dtype::bf16);
  const auto engine = open(nvme_config(nvme.path()), params);
  write_initial(*engine, params);
  train_steps(*engine, params, 0, 1);
  ASSERT_TRUE(save(*engine, checkpoints.path() / "a"));
  std::uint64_t elements = 0;
  for (const auto& param : params) elements += param.numel;
  EXPECT_LT(file_bytes(checkpoints.path()), elements * 2 + 64 * 1024);
}

TEST(Checkpoint, KeepsWhatItSavedWhileTrainingGoesOn) {
  for (const bool on_nvme : {false, true}) {
    const TemporaryDirectory nvme;
    const TemporaryDirectory checkpoints;
    const auto params = small_model(Dtype::bf16);
    const auto engine = open(on_nvme ? nvme_config(nvme.path()) : "{}", params);
    write_initial(*engine, params);
    train_steps(*engine, params, 0, 1);
    const std::uint64_t saved = engine->digest().value();
    // So slowly that steps overtake it.
    ASSERT_TRUE(engine->save_begin({(checkpoints.path() / "a").string(), "", {}, "", 100'000}));
    train_steps(*engine, params, 1, 3);
    const std::uint64_t trained = engine->digest().value();
    ASSERT_TRUE(engine->checkpoint_wait(-1));
    EXPECT_EQ(engine->digest().value(), trained);
    ASSERT_TRUE(load(*engine, checkpoints.path() / "a"));
    EXPECT_EQ(engine->digest().value(), saved);
  }
}

Result<> save_what_is_trained(Engine& engine, const fs::path& directory) {
  SaveOptions options;
  options.directory = directory.string();
  options.what = SaveWhat::trained;
  return testing::save(engine, std::move(options));
}

TEST(Checkpoint, MayLeaveFrozenParametersOut) {
  const auto params = model_with_frozen(Dtype::bf16);
  for (const std::string stored : {"none", "states", "parameters"}) {
    const TemporaryDirectory nvme;
    const TemporaryDirectory checkpoints;
    std::string config = stored == "none" ? "{}" : nvme_config(nvme.path());
    if (stored == "parameters") config.insert(config.find("\"offload_optimizer"), R"("offload_param": {"device": "nvme"}, )");
    std::uint64_t expected = 0;
    {
      const auto engine = open(config, params);
      write_initial(*engine, params);
      train_steps(*engine, params, 0, 1);
      ASSERT_TRUE(save(*engine, checkpoints.path() / "all"));
      ASSERT_TRUE(save_what_is_trained(*engine, checkpoints.path() / "trained"));
      if (stored == "none") EXPECT_LT(file_bytes(checkpoints.path() / "trained") + 500'000, file_bytes(checkpoints.path() / "all"));
      train_steps(*engine, params, 1, 3);
      expected = engine->digest().value();
    }
    EXPECT_EQ(SavedCheckpoint::open((checkpoints.path() / "trained").string(), 0).value()->manifest().params.size(), 5u);
    const auto engine = open(config, params);
    write_initial(*engine, params);
    const auto refused = load(*engine, checkpoints.path() / "trained");
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, HasSubstr("\"adapter.base\" is not in the checkpoint"));
    const auto loaded = load(*engine, checkpoints.path() / "trained", LoadWhat::everything, Match::common);
    ASSERT_TRUE(loaded) << loaded.error().message;
    train_steps(*engine, params, 1, 3);
    EXPECT_EQ(engine->digest().value(), expected) << stored;
  }
}

std::vector<float> plane_of(Engine& engine, std::uint32_t id, Plane plane, std::uint64_t count) {
  std::vector<float> values(count);
  EXPECT_TRUE(engine.read_plane(id, plane, {0, count}, Dtype::f32, values.data()));
  return values;
}

TEST(Checkpoint, WhatOnlyTheModelOrTheCheckpointHasCanBePassedOver) {
  const TemporaryDirectory checkpoints;
  for (const Dtype dtype : {Dtype::bf16, Dtype::f16}) {
    const std::string config = config_of(dtype, nullptr);
    const auto saved_params = small_model(dtype);
    const auto saved = open(config, saved_params);
    write_initial(*saved, saved_params);
    train_steps(*saved, saved_params, 0, 2);
    ASSERT_TRUE(save(*saved, checkpoints.path() / "c"));

    auto params = saved_params;
    params[4].name = "another";  // shares a unit with none, "other.bias" does
    params[3].name = "other.bias";
    const auto engine = open(config, params);
    write_initial(*engine, params);
    train_steps(*engine, params, 7, 8);
    const auto before = plane_of(*engine, 3, Plane::exp_avg, 33);
    const auto master = plane_of(*engine, 4, Plane::master, 1000);
    const auto loaded = load(*engine, checkpoints.path() / "c", LoadWhat::everything, Match::common);
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(plane_of(*engine, 3, Plane::exp_avg, 33), before);
    EXPECT_EQ(plane_of(*engine, 4, Plane::master, 1000), master);
    for (const Plane plane : {Plane::master, Plane::exp_avg, Plane::exp_avg_sq}) {
      EXPECT_EQ(plane_of(*engine, 1, plane, 1000), plane_of(*saved, 1, plane, 1000));
    }
    ASSERT_TRUE(load(*engine, checkpoints.path() / "c", LoadWhat::parameters, Match::common));
    EXPECT_EQ(plane_of(*engine, 4, Plane::master, 1000), master);
  }
}

TEST(Checkpoint, TakesThePlaceOfOthersInBoundedSpace) {
  const TemporaryDirectory nvme;
  const TemporaryDirectory checkpoints;
  const auto params = small_model(Dtype::f32);
  const auto engine = open(nvme_config(nvme.path()), params);
  std::vector<std::string> kept;
  std::uint64_t largest = 0;
  for (unsigned i = 0; i < 6; ++i) {
    train_steps(*engine, params, i, i + 1);
    const auto directory = checkpoints.path() / std::to_string(i);
    const auto saved = save(*engine, directory, kept);
    ASSERT_TRUE(saved) << saved.error().message;
    kept = {directory.string()};
    if (i == 1) largest = engine->stats().nvme_bytes;
    if (i > 1) {
      EXPECT_EQ(engine->stats().nvme_bytes, largest) << "checkpoint " << i;
    }
    EXPECT_EQ(std::distance(fs::directory_iterator(checkpoints.path()), fs::directory_iterator()), 1) << i;
  }
  // Also in one directory, over and over.
  for (unsigned i = 6; i < 9; ++i) {
    train_steps(*engine, params, i, i + 1);
    ASSERT_TRUE(save(*engine, kept.front()));
    EXPECT_EQ(engine->stats().nvme_bytes, largest);
  }
  const std::uint64_t now = engine->digest().value();
  train_steps(*engine, params, 9, 10);
  ASSERT_TRUE(load(*engine, kept.front()));
  EXPECT_EQ(engine->digest().value(), now);
}

TEST(Checkpoint, DeletedByTheUserGivesItsRoomBack) {
  const TemporaryDirectory nvme;
  const TemporaryDirectory checkpoints;
  const auto params = small_model(Dtype::f32);
  const auto run = nvme.path() / "orlop";
  {
    const auto engine = open(nvme_config(nvme.path()), params);
    train_steps(*engine, params, 0, 1);
    ASSERT_TRUE(save(*engine, checkpoints.path() / "a"));
    ASSERT_TRUE(engine->finish());
  }
  EXPECT_GT(file_bytes(run), 1u << 20) << "the store stays: the checkpoint refers to it";
  { const auto engine = open(nvme_config(nvme.path()), params); }
  EXPECT_GT(file_bytes(run), 1u << 20) << "and is not taken for a crashed run's";
  fs::remove_all(checkpoints.path() / "a");
  { const auto engine = open(nvme_config(nvme.path()), params); }
  EXPECT_FALSE(nvme.holds_files());
}

TEST(Checkpoint, InARenamedDirectoryIsNotTakenForDeleted) {
  const TemporaryDirectory nvme;
  const TemporaryDirectory checkpoints;
  const auto params = small_model(Dtype::f32);
  std::uint64_t saved = 0;
  {
    const auto engine = open(nvme_config(nvme.path(), R"(, "orlop": {"run_id": "mine"})"), params);
    train_steps(*engine, params, 0, 1);
    saved = engine->digest().value();
    ASSERT_TRUE(save(*engine, checkpoints.path() / "a"));
    ASSERT_TRUE(engine->finish());
  }
  fs::rename(checkpoints.path() / "a", checkpoints.path() / "best");
  // The same run id again: the store is set aside for the checkpoint.
  const auto engine = open(nvme_config(nvme.path(), R"(, "orlop": {"run_id": "mine"})"), params);
  const auto loaded = load(*engine, checkpoints.path() / "best");
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(engine->digest().value(), saved);
}

// ---- What is refused ----

class SavedOnce : public ::testing::Test {
 protected:
  void SetUp() override {
    engine_ = open(nvme_config(nvme_.path()), params_);
    write_initial(*engine_, params_);
    train_steps(*engine_, params_, 0, 1);
    ASSERT_TRUE(save(*engine_, saved()));
    before_ = engine_->digest().value();
  }
  [[nodiscard]] fs::path saved() const { return checkpoints_.path() / "a"; }
  [[nodiscard]] std::string manifest() const { return manifest_path(saved().string(), 0); }
  [[nodiscard]] fs::path data() const {
    for (const auto& entry : fs::directory_iterator(saved())) {
      if (entry.path().extension() == ".states") return entry.path();
    }
    return {};
  }
  [[nodiscard]] fs::path store() const {
    for (const auto& entry : fs::recursive_directory_iterator(nvme_.path())) {
      if (entry.path().extension() == ".store") return entry.path();
    }
    return {};
  }
  static void flip(const fs::path& path, std::uint64_t offset) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(offset));
    const char byte = static_cast<char>(file.get() ^ 0x10);
    file.seekp(static_cast<std::streamoff>(offset));
    file.put(byte);
  }
  Error refusal() {
    const auto loaded = load(*engine_, saved());
    EXPECT_FALSE(loaded);
    return loaded ? Error{} : loaded.error();
  }
  void expect_unchanged() { EXPECT_EQ(engine_->digest().value(), before_); }

  std::vector<ParamSpec> params_ = small_model(Dtype::bf16);
  TemporaryDirectory nvme_;
  TemporaryDirectory checkpoints_;
  std::unique_ptr<Engine> engine_;
  std::uint64_t before_ = 0;
};

TEST_F(SavedOnce, AnyByteOfTheManifestFlipped) {
  const std::uint64_t size = fs::file_size(manifest());
  for (std::uint64_t offset = 0; offset < size; offset += 1 + size / 97) {
    flip(manifest(), offset);
    const auto loaded = load(*engine_, saved());
    ASSERT_FALSE(loaded) << offset;
    EXPECT_TRUE(loaded.error().status == ORLOP_CORRUPT || loaded.error().status == ORLOP_UNSUPPORTED)
        << offset << ": " << loaded.error().message;
    flip(manifest(), offset);
  }
  expect_unchanged();
  EXPECT_TRUE(load(*engine_, saved()));
}

// Well-formed and with a right checksum, as a bug or an attacker could make it.
TEST_F(SavedOnce, AManifestThatContradictsItself) {
  const Manifest sound = read_manifest(saved().string(), 0).value();
  const auto refusal_of = [&](const std::function<void(Manifest&)>& change) {
    Manifest changed = sound;
    change(changed);
    const auto decoded = decode_manifest(encode_manifest(changed), "here");
    return decoded ? Error{ORLOP_OK, "accepted"} : decoded.error();
  };
  const std::vector<std::function<void(Manifest&)>> changes = {
      [](Manifest& m) { m.params[1].dtype = Dtype::f32; },
      [](Manifest& m) { m.params[1].unit = 1000; },
      [](Manifest& m) { m.params[1].offset += 1ull << 40; },
      [](Manifest& m) { m.blocks.pop_back(); },
      [](Manifest& m) { std::swap(m.blocks[0], m.blocks[1]); },
      [](Manifest& m) { m.blocks[1].range.begin += kShardGrain; },
      [](Manifest& m) { m.blocks[0].stored.extent.runs.clear(); },
      [](Manifest& m) { m.blocks[0].param_sums.pop_back(); },
      [](Manifest& m) { m.blocks[0].file_offset = m.data_bytes + 4096; },
      [](Manifest& m) { m.data_file = "../other"; },
  };
  for (std::size_t i = 0; i < changes.size(); ++i) {
    const Error error = refusal_of(changes[i]);
    EXPECT_EQ(error.status, ORLOP_CORRUPT) << i << ": " << error.message;
  }
  EXPECT_EQ(refusal_of([](Manifest&) {}).status, ORLOP_OK);
}

TEST_F(SavedOnce, ATruncatedManifest) {
  fs::resize_file(manifest(), fs::file_size(manifest()) / 2);
  EXPECT_EQ(refusal().status, ORLOP_CORRUPT);
  fs::resize_file(manifest(), 3);
  EXPECT_EQ(refusal().status, ORLOP_CORRUPT);
  expect_unchanged();
}

TEST_F(SavedOnce, AByteOfTheParametersFlipped) {
  flip(data(), 123'456);
  EXPECT_THAT(refusal().message, AllOf(HasSubstr(data().string()), HasSubstr("plane param"), HasSubstr("older")));
}

TEST_F(SavedOnce, AByteOfTheStoreFlipped) {
  ASSERT_TRUE(engine_->drain(-1));
  for (std::uint64_t offset = 256 * 1024 + 99; offset < fs::file_size(store()); offset += 256 * 1024) flip(store(), offset);
  const Error error = refusal();
  EXPECT_EQ(error.status, ORLOP_CORRUPT);
  EXPECT_THAT(error.message, HasSubstr(store().string()));
}

TEST_F(SavedOnce, ATruncatedDataFile) {
  fs::resize_file(data(), fs::file_size(data()) - 4096);
  EXPECT_THAT(refusal().message, HasSubstr("truncated"));
  expect_unchanged();
}

TEST_F(SavedOnce, WithoutItsStore) {
  ASSERT_TRUE(engine_->finish());
  engine_.reset();
  fs::remove_all(nvme_.path() / "orlop");
  engine_ = open("{}", params_);
  const Error error = refusal();
  EXPECT_EQ(error.status, ORLOP_NOT_FOUND);
  EXPECT_THAT(error.message, HasSubstr("orlop export"));
}

TEST_F(SavedOnce, AnotherModel) {
  auto params = params_;
  params[0].numel += 1;
  params[1].name = "renamed";
  params[2].training = Training::frozen;
  const auto engine = open("{}", params);
  const auto loaded = load(*engine, saved());
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().status, ORLOP_INVALID_ARGUMENT);
  EXPECT_THAT(loaded.error().message,
              AllOf(HasSubstr("4 differences"), HasSubstr("\"renamed\" is not in the checkpoint"),
                    HasSubstr("\"norm.weight\" is only in the checkpoint"), HasSubstr("2500001 elements, 2500000"),
                    HasSubstr("\"up\" is frozen, saved trainable")));
}

TEST_F(SavedOnce, NoCheckpoint) {
  const auto nothing = load(*engine_, checkpoints_.path() / "none");
  ASSERT_FALSE(nothing);
  EXPECT_EQ(nothing.error().status, ORLOP_NOT_FOUND);
  const auto empty = load(*engine_, checkpoints_.path());
  ASSERT_FALSE(empty);
  EXPECT_EQ(empty.error().status, ORLOP_NOT_FOUND);
  expect_unchanged();
}

const Progress kSilent = [](std::uint64_t, std::uint64_t) { return true; };

TEST_F(SavedOnce, IsVerifiedToTheLastByte) {
  std::uint64_t done = 0;
  std::uint64_t total = 0;
  const auto count = [&](std::uint64_t now, std::uint64_t all) {
    done = now;
    total = all;
    return true;
  };
  const auto verified = verify_checkpoint(saved().string(), 0, count);
  ASSERT_TRUE(verified) << verified.error().message;
  EXPECT_EQ(done, total);
  EXPECT_GT(total, engine_->stats().params * 12);
  flip(data(), fs::file_size(data()) - 4096);
  EXPECT_EQ(verify_checkpoint(saved().string(), 0, kSilent).error().status, ORLOP_CORRUPT);
}

TEST_F(SavedOnce, WrittenOutWholeItStandsAlone) {
  const fs::path whole = checkpoints_.path() / "whole";
  const auto exported = export_checkpoint(saved().string(), 0, whole.string(), kSilent);
  ASSERT_TRUE(exported) << exported.error().message;
  EXPECT_FALSE(export_checkpoint(saved().string(), 0, whole.string(), kSilent)) << "what is there is not written over";
  ASSERT_TRUE(engine_->finish());
  engine_.reset();
  fs::remove_all(nvme_.path() / "orlop");
  EXPECT_TRUE(verify_checkpoint(whole.string(), 0, kSilent));
  const auto engine = open("{}", params_);
  ASSERT_TRUE(load(*engine, whole));
  EXPECT_EQ(engine->digest().value(), before_);
}

TEST_F(SavedOnce, AnExportThatIsStoppedLeavesNothing) {
  const fs::path whole = checkpoints_.path() / "whole";
  const auto stopped = export_checkpoint(saved().string(), 0, whole.string(),
                                         [](std::uint64_t done, std::uint64_t total) { return done < total / 2; });
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().status, ORLOP_CANCELLED);
  EXPECT_FALSE(fs::exists(whole));
}

TEST_F(SavedOnce, ParametersAreReadWithoutAnEngine) {
  const auto checkpoint = SavedCheckpoint::open(saved().string(), 0).value();
  std::vector<float> expected(params_[2].numel);
  std::vector<float> found(params_[2].numel);
  ASSERT_TRUE(engine_->read_plane(2, Plane::master, {0, expected.size()}, Dtype::f32, expected.data()));
  ASSERT_TRUE(checkpoint->read_master(2, {0, 1000}, found.data()));
  ASSERT_TRUE(checkpoint->read_master(2, {1000, found.size()}, found.data() + 1000));
  EXPECT_EQ(found, expected);
}

TEST_F(SavedOnce, ParametersAlone) {
  std::vector<float> saved(1000);
  ASSERT_TRUE(engine_->read_plane(1, Plane::param, {0, 1000}, Dtype::f32, saved.data()));
  const auto engine = open("{}", params_);
  train_steps(*engine, params_, 5, 7);
  ASSERT_TRUE(load(*engine, this->saved(), LoadWhat::parameters));
  std::vector<float> found(1000);
  for (const Plane plane : {Plane::param, Plane::master}) {
    ASSERT_TRUE(engine->read_plane(1, plane, {0, 1000}, Dtype::f32, found.data()));
    EXPECT_EQ(found, saved);
  }
  EXPECT_EQ(engine->stats().steps, 2u);
}

TEST_F(SavedOnce, ASaveThatFailsLeavesThePreviousOne) {
  train_steps(*engine_, params_, 1, 2);
  ASSERT_TRUE(engine_->drain(-1));
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit tiny = {1 << 20, before.rlim_max};
  ::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tiny), 0);
  const auto failed = save(*engine_, saved());
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_FALSE(failed);
  train_steps(*engine_, params_, 2, 3);
  const auto loaded = load(*engine_, saved());
  ASSERT_TRUE(loaded) << loaded.error().message;
  expect_unchanged();
}

}  // namespace
}  // namespace orlop::zero3
