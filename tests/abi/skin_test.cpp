// orlop.hpp: ownership and exceptions.
#include "orlop/orlop.hpp"

#include <unistd.h>

#include <array>
#include <filesystem>
#include <string>
#include <utility>

#include <gtest/gtest.h>

namespace {

TEST(Skin, TrainsAndReportsThroughTheHeaderAlone) {
  orlop::Engine engine(R"({"gradient_clipping": 1.0})");
  const std::uint32_t id = engine.register_param("w", ORLOP_BF16, 100);
  engine.commit();
  const std::array<float, 100> gradient = [] {
    std::array<float, 100> ones;
    ones.fill(1);
    return ones;
  }();
  engine.grad_ready(id, gradient.data(), ORLOP_F32);
  EXPECT_TRUE(engine.backward_end());
  const orlop_step_report report = engine.step();
  EXPECT_DOUBLE_EQ(report.grad_norm, 10);
  EXPECT_NEAR(report.clip_factor, 0.1, 1e-6);
  EXPECT_EQ(engine.stats().steps, 1u);
  EXPECT_NE(engine.digest(), 0u);
  engine.close();
}

TEST(Skin, ThrowsTheSentence) {
  try {
    orlop::Engine engine(R"({"zero_optimization": {"stage": 7}})");
    FAIL() << "stage 7 was accepted";
  } catch (const orlop::Exception& e) {
    EXPECT_EQ(e.status(), ORLOP_INVALID_CONFIG);
    EXPECT_NE(std::string(e.what()).find("zero_optimization.stage"), std::string::npos);
  }
}

TEST(Skin, LendsUnitsOfTheStore) {
  std::string name = (std::filesystem::temp_directory_path() / "orlop-skin-XXXXXX").string();
  const std::string directory = ::mkdtemp(name.data());
  orlop::Engine engine(R"({"zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0,
                           "offload_param": {"device": "nvme"},
                           "offload_optimizer": {"device": "nvme", "nvme_path": ")" + directory + R"("}}})");
  const std::uint32_t id = engine.register_param("w", ORLOP_F32, 2);
  engine.commit();
  const std::array<float, 2> values = {1, 2};
  engine.write(id, ORLOP_PLANE_PARAM, 0, 2, ORLOP_F32, values.data());
  const auto [unit, first] = engine.place(id);
  EXPECT_NE(engine.unit(unit).flags & ORLOP_UNIT_STORED, 0u);
  std::vector<float> memory(engine.unit(unit).elements);
  EXPECT_TRUE(engine.make_room(unit).empty());
  engine.unshard(unit, ORLOP_USE_FORWARD, memory.data());
  EXPECT_EQ(memory[first + 1], 2);
  EXPECT_TRUE(engine.reshard(unit)) << "there is room";
  engine.unshard(unit, ORLOP_USE_BACKWARD, memory.data());
  engine.give_up(unit);
  EXPECT_EQ(engine.stats().unit_hits, 1u);
  EXPECT_EQ(engine.stats().live_bytes, 0u);
  engine.close();
  std::filesystem::remove_all(directory);
}

TEST(Skin, ImportsWhatAnEngineLoads) {
  std::string name = (std::filesystem::temp_directory_path() / "orlop-skin-XXXXXX").string();
  const std::string directory = ::mkdtemp(name.data());
  orlop_param_desc desc{};
  desc.struct_size = sizeof desc;
  desc.name = "w";
  desc.numel = 3;
  const std::array<float, 3> values = {1, 2, 3};
  {
    orlop::Import import(directory, {desc});
    import.write(0, 0, 3, ORLOP_F32, values.data());
    import.complete();
  }
  orlop::Engine engine("{}");
  const std::uint32_t id = engine.register_param("w", ORLOP_F32, 3);
  engine.commit();
  engine.load(directory);
  std::array<float, 3> found{};
  engine.read(id, ORLOP_PLANE_PARAM, 0, 3, ORLOP_F32, found.data());
  EXPECT_EQ(found, values);
  std::filesystem::remove_all(directory);
}

TEST(Skin, LendsHostMemoryAndMovesFiles) {
  std::string name = (std::filesystem::temp_directory_path() / "orlop-skin-XXXXXX").string();
  const std::string directory = ::mkdtemp(name.data());
  orlop_host_pool_params pool_params{};
  pool_params.struct_size = sizeof pool_params;
  orlop::HostPool pool(pool_params);
  orlop_file_queue_params queue_params{};
  queue_params.struct_size = sizeof queue_params;
  queue_params.queue = "threads";
  orlop::FileQueue queue(queue_params);
  auto* const memory = static_cast<char*>(pool.take(5000));
  memory[4999] = 'z';
  queue.wait(queue.write(directory + "/file", 0, 5000, memory));
  memory[4999] = 0;
  queue.wait(queue.read(directory + "/file", 0, 5000, memory));
  EXPECT_EQ(memory[4999], 'z');
  pool.give_back(memory);
  EXPECT_EQ(pool.use().used_bytes, 0u);
  std::filesystem::remove_all(directory);
}

TEST(Skin, MovesOwnership) {
  orlop::Engine first("{}");
  orlop_engine* const handle = first.get();
  const orlop::Engine second = std::move(first);
  EXPECT_EQ(second.get(), handle);
  EXPECT_EQ(first.get(), nullptr);  // NOLINT: the moved-from state is what is tested
}

}  // namespace
