// Engines whose states are on several drives: the same bits as in memory, and checkpoints that do not ask how many drives
// there were.

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "child.hpp"
#include "swap/run_directory.hpp"
#include "swap/store_file.hpp"
#include "zero3/saved_checkpoint.hpp"
#include "zero3/training.hpp"

namespace orlop::zero3 {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using namespace orlop::zero3::testing;

using Paths = std::vector<fs::path>;

std::string config_on(const Paths& drives, const std::string& more = "}") {
  nlohmann::json paths = nlohmann::json::array();
  for (const fs::path& drive : drives) {
    fs::create_directories(drive);
    paths.push_back(drive.string());
  }
  return R"({"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "nvme", "nvme_path": )" + paths.dump() + "}" +
         more + "}";
}

constexpr const char* kStored = R"(, "offload_param": {"device": "nvme"}, "stage3_param_persistence_threshold": 10000})";
constexpr const char* kHalfInMemory = R"(}, "orlop": {"memory": {"pinned": 0.5}})";

void train_steps(Engine& engine, const std::vector<ParamSpec>& params, unsigned from, unsigned to) {
  for (unsigned s = from; s < to; ++s) {
    give_gradients(engine, params, 77 + s);
    ASSERT_TRUE(engine.backward_end());
    const auto report = step(engine);
    ASSERT_TRUE(report) << report.error().message;
  }
}

void load(Engine& engine, const fs::path& directory) {
  ASSERT_TRUE(engine.load_begin(directory.string(), LoadWhat::everything));
  const auto loaded = engine.checkpoint_wait(-1);
  ASSERT_TRUE(loaded) << loaded.error().message;
}

std::vector<fs::path> stores_in(const fs::path& directory) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    if (entry.path().extension() == ".store") found.push_back(entry.path());
  }
  return found;
}

struct DrivesCheckpoint : ::testing::Test {
  Paths drives(std::initializer_list<const char*> names) const {
    Paths paths;
    for (const char* name : names) paths.push_back(directory.path() / name);
    return paths;
  }
  [[nodiscard]] std::uint64_t in_memory(unsigned steps) const {
    const auto engine = open("{}", params);
    write_initial(*engine, params);
    train_steps(*engine, params, 0, steps);
    return engine->digest().value();
  }
  // Three steps, saved; then one more, which changes nothing of what was saved.
  void train_and_save(const Paths& on, const char* more = "}") {
    const auto engine = open(config_on(on, more), params);
    write_initial(*engine, params);
    train_steps(*engine, params, 0, 3);
    const auto done = save(*engine, saved);
    ASSERT_TRUE(done) << done.error().message;
    train_steps(*engine, params, 3, 4);
    ASSERT_TRUE(engine->finish());
  }
  void expect_goes_on(const Paths& on) {
    const auto engine = open(config_on(on), params);
    load(*engine, saved);
    train_steps(*engine, params, 3, 5);
    EXPECT_EQ(engine->digest().value(), in_memory(5));
  }

  std::vector<ParamSpec> params = small_model(Dtype::bf16);
  TemporaryDirectory directory;
  fs::path saved = directory.path() / "saved";
};

// The first test: a child has no threads but the one that forks.
TEST_F(DrivesCheckpoint, AKilledRunGoesOnFromItsLast) {
  const auto on = drives({"a", "b"});
  kill_child(start_child([&](const auto& begun) {
    const auto engine = open(config_on(on), params);
    write_initial(*engine, params);
    train_steps(*engine, params, 0, 3);
    if (save(*engine, saved) && begun()) train_steps(*engine, params, 3, 1000);
  }));
  expect_goes_on(on);
}

TEST_F(DrivesCheckpoint, TrainingHasTheSameBitsOnAnyNumberOfDrives) {
  const std::uint64_t expected = in_memory(4);
  for (const auto& on : {drives({"a"}), drives({"a", "b"}), drives({"a", "b", "c"})}) {
    for (const char* more : {"}", kStored, kHalfInMemory}) {
      const auto engine = open(config_on(on, more), params);
      write_initial(*engine, params);
      train_steps(*engine, params, 0, 4);
      EXPECT_EQ(engine->digest().value(), expected) << on.size() << " drives" << more;
      const auto described = nlohmann::json::parse(engine->describe());
      ASSERT_EQ(described["nvme"]["by_drive"].size(), on.size());
      for (std::size_t i = 0; i < on.size(); ++i) {
        EXPECT_EQ(described["nvme"]["by_drive"][i]["path"], on[i].string());
        EXPECT_GT(described["nvme"]["by_drive"][i]["write_bytes"], 0);
      }
    }
  }
  EXPECT_FALSE(nlohmann::json::parse(open("{}", params)->describe()).contains("nvme"));
}

TEST_F(DrivesCheckpoint, ThePlanIsWhatIsTaken) {
  EngineOptions options;
  options.config = resolve_config(config_on(drives({"a", "b"})), 1).value();
  const auto engine = Engine::open(std::move(options)).value();
  for (const ParamSpec& param : params) ASSERT_TRUE(engine->register_param(param));
  const auto plan = nlohmann::json::parse(engine->plan().value());
  ASSERT_TRUE(engine->commit());
  EXPECT_EQ(engine->stats().nvme_bytes, plan["nvme_bytes"]);
  EXPECT_EQ(engine->stats().host_bytes, plan["host_bytes"]);
}

TEST_F(DrivesCheckpoint, SavedOnOneGoesOnOnTwo) {
  train_and_save(drives({"a"}));
  expect_goes_on(drives({"b", "c"}));
}

TEST_F(DrivesCheckpoint, SavedOnTwoGoesOnOnOneAndOnOthersAndInAnotherOrder) {
  train_and_save(drives({"a", "b"}));
  expect_goes_on(drives({"c"}));
  expect_goes_on(drives({"b", "a"}));
  expect_goes_on(drives({"a", "b"}));
  const auto in_memory_again = open("{}", params);
  load(*in_memory_again, saved);
  train_steps(*in_memory_again, params, 3, 5);
  EXPECT_EQ(in_memory_again->digest().value(), in_memory(5));
}

TEST_F(DrivesCheckpoint, SavedWithHalfOfItInMemoryGoesOn) {
  train_and_save(drives({"a", "b"}), kHalfInMemory);
  expect_goes_on(drives({"c"}));
  expect_goes_on(drives({"c", "b", "a"}));
}

TEST_F(DrivesCheckpoint, NamesItsDrives) {
  train_and_save(drives({"a"}));
  EXPECT_TRUE(read_manifest(saved.string(), 0).value().to_json()["store"].is_object());
  fs::remove_all(saved);
  train_and_save(drives({"a", "b"}));
  const Manifest two = read_manifest(saved.string(), 0).value();
  ASSERT_EQ(two.to_json()["store"].size(), 2u);
  EXPECT_EQ(two.to_json()["store"][1]["directory"], (directory.path() / "b/orlop" / two.stores[1].run_id).string());
  Manifest broken = two;
  broken.blocks[0].stored.extent.runs[0].drive = 2;
  const auto decoded = decode_manifest(encode_manifest(broken), "here");
  ASSERT_FALSE(decoded);
  EXPECT_THAT(decoded.error().message, HasSubstr("the drive of an extent"));
}

TEST_F(DrivesCheckpoint, IsVerifiedOnAllDrivesAndExported) {
  train_and_save(drives({"a", "b"}));
  const Progress quiet = [](std::uint64_t, std::uint64_t) { return true; };
  ASSERT_TRUE(verify_checkpoint(saved.string(), 0, quiet));
  const fs::path whole = directory.path() / "whole";
  ASSERT_TRUE(export_checkpoint(saved.string(), 0, whole.string(), quiet));
  const auto store = stores_in(directory.path() / "b").front();
  const Manifest manifest = read_manifest(saved.string(), 0).value();
  for (const auto& run : manifest.blocks[0].stored.extent.runs) {
    if (run.drive != 1) continue;
    std::fstream file(store, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(swap::grain_offset(run.first_grain)));
    file.write("damaged", 7);
    break;
  }
  const auto verified = verify_checkpoint(saved.string(), 0, quiet);
  ASSERT_FALSE(verified);
  EXPECT_EQ(verified.error().status, ORLOP_CORRUPT);
  EXPECT_THAT(verified.error().message, HasSubstr(store.string()));
  fs::rename(whole, saved.string() + "-whole");
  EXPECT_TRUE(verify_checkpoint(saved.string() + "-whole", 0, quiet)) << "it needs none of the drives";
}

TEST_F(DrivesCheckpoint, WithoutOneOfItsDrivesIsRefusedWithItsName) {
  train_and_save(drives({"a", "b"}));
  fs::remove_all(directory.path() / "b");
  const auto engine = open("{}", params);
  const auto begun = engine->load_begin(saved.string(), LoadWhat::everything);
  ASSERT_FALSE(begun);
  EXPECT_EQ(begun.error().status, ORLOP_NOT_FOUND);
  EXPECT_THAT(begun.error().message, AllOf(HasSubstr((directory.path() / "b").string()), HasSubstr("not there any more")));
}

TEST_F(DrivesCheckpoint, DeletedWhileTrainingGivesItsRoomBackOnAllDrives) {
  const auto engine = open(config_on(drives({"a", "b"})), params);
  write_initial(*engine, params);
  train_steps(*engine, params, 0, 1);
  const auto first = engine->stats().nvme_bytes;
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(save(*engine, saved));
    train_steps(*engine, params, 1, 2);
    fs::remove_all(saved);
  }
  EXPECT_LT(engine->stats().nvme_bytes, 3 * first) << "room for one more generation, not for eight";
}

TEST_F(DrivesCheckpoint, DeletedAfterTheRunLeavesNothingOnAnyDrive) {
  const auto on = drives({"a", "b"});
  train_and_save(on);
  for (const fs::path& drive : on) {
    EXPECT_EQ(stores_in(drive).size(), 1u);
    EXPECT_LT(swap::reclaimable_bytes(drive.string()), swap::kGrainBytes) << "trimmed to what the checkpoint refers to";
  }
  fs::rename(saved, saved.string() + "-moved");
  for (const fs::path& drive : on) swap::reclaim_leftovers(drive.string());
  for (const fs::path& drive : on) EXPECT_EQ(stores_in(drive).size(), 1u) << "renamed is not deleted";
  fs::remove_all(saved.string() + "-moved");
  for (const fs::path& drive : on) swap::reclaim_leftovers(drive.string());
  for (const fs::path& drive : on) EXPECT_EQ(stores_in(drive).size(), 0u);
}

}  // namespace
}  // namespace orlop::zero3
