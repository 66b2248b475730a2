#include "swap/tiered_states.hpp"

#include <fstream>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "faulty.hpp"
#include "support.hpp"
#include "swap/host_states.hpp"
#include "swap/store.hpp"

namespace orlop::swap {
namespace {

using namespace testing;
using ::testing::HasSubstr;

// Of each block all, some or none of its planes.
std::vector<PlaneSet> random_residence(std::mt19937_64& random, const std::vector<BlockSpec>& blocks) {
  std::vector<PlaneSet> resident;
  for (const BlockSpec& block : blocks) {
    const auto some = PlaneSet::of_bits(static_cast<std::uint8_t>(random()));
    resident.push_back(random() % 3 == 0 ? block.planes : random() % 2 == 0 ? PlaneSet{} : block.planes & some);
  }
  return resident;
}

TEST(TieredStates, HoldWhatPlainVectorsHoldWhereverTheirPlanesAre) {
  for (unsigned seed = 1; seed <= 6; ++seed) {
    std::mt19937_64 random(seed);
    const auto blocks = random_blocks(random, 17);
    const auto resident = random_residence(random, blocks);
    TemporaryDirectory directory;
    const auto states = make_tiered_states(topology(), blocks, resident, options_in(directory)).value();
    Model model(blocks);
    EXPECT_EQ(model.difference(*states), "") << "states begin as zero";
    auto order = forward_order(blocks.size());
    for (std::uint32_t sweep = 1; sweep <= 5; ++sweep) {
      std::shuffle(order.begin(), order.end(), random);
      const std::span part(order.data(), 1 + random() % order.size());
      if (random() % 2 == 0) {
        ASSERT_TRUE(states->prefetch(part));
      }
      ASSERT_TRUE(states->sweep(part, changing_visitor(blocks, sweep), kNeverCancelled));
      model.sweep(part, sweep);
      const auto block = static_cast<std::uint32_t>(random() % blocks.size());
      ASSERT_TRUE(states->access(block, Change::modified, [&](const BlockMemory& memory) -> Result<> {
        for (std::uint64_t c = 0; c < chunk_count(blocks[block]); ++c) change_chunk(blocks[block], memory, c, 5 + block);
        return {};
      }));
      model.change_block(block, 5);
      ASSERT_EQ(model.difference(*states), "") << "seed " << seed << ", sweep " << sweep;
    }
  }
}

TEST(TieredStates, MoveOnlyWhatIsNotInMemoryAndTakeWhatWasSaid) {
  std::mt19937_64 random(3);
  const auto blocks = random_blocks(random, 12);
  const auto resident = random_residence(random, blocks);
  TemporaryDirectory directory;
  const auto options = options_in(directory);
  const auto states = make_tiered_states(topology(), blocks, resident, options).value();
  const TierUse said = tiered_states_use(blocks, resident, options.slab_count, options.plane_slab_count);
  EXPECT_EQ(states->use().host_bytes, said.host_bytes);
  EXPECT_EQ(states->use().nvme_bytes, said.nvme_bytes);
  EXPECT_LT(said.nvme_bytes, nvme_states_use(blocks, options.slab_count).nvme_bytes);
  ASSERT_TRUE(states->drain(-1));
  const Traffic before = states->traffic();
  ASSERT_TRUE(states->sweep(forward_order(blocks.size()), changing_visitor(blocks, 1), kNeverCancelled));
  ASSERT_TRUE(states->drain(-1));
  std::uint64_t stored = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    stored += blocks[i].elements * (blocks[i].planes - resident[i]).bytes_per_element();
  }
  EXPECT_EQ(states->traffic().write_bytes - before.write_bytes, stored);
  EXPECT_EQ(states->traffic().read_bytes - before.read_bytes, stored + kHeaderBytes);
}

TEST(TieredStates, WithEverythingInMemoryThereIsNoStore) {
  const auto blocks = equal_blocks(3, 4096);
  TemporaryDirectory directory;
  const std::vector<PlaneSet> resident(3, blocks.front().planes);
  const auto states = make_tiered_states(topology(), blocks, resident, options_in(directory)).value();
  EXPECT_TRUE(directory.is_empty());
  EXPECT_EQ(states->use().host_bytes, host_states_bytes(blocks));
}

// The first byte of every grain that is not empty; the store's header is left alone.
void flip_bytes_of_all_blocks(const std::string& path) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  const auto size = fs::file_size(path);
  for (std::uint64_t at = grain_offset(0); at < size; at += kGrainBytes) {
    char byte = 0;
    file.seekg(static_cast<std::streamoff>(at)).get(byte);
    file.seekp(static_cast<std::streamoff>(at)).put(static_cast<char>(byte ^ 0x10));
  }
  ASSERT_TRUE(file.flush());
}

TEST(TieredStates, AByteThatTurnsOnTheDriveIsFoundInABlockThatIsPartlyInMemory) {
  const auto blocks = equal_blocks(4, 4096);
  TemporaryDirectory directory;
  const std::vector<PlaneSet> resident(4, {Plane::lo, Plane::exp_avg});
  const auto states = make_tiered_states(topology(), blocks, resident, options_in(directory)).value();
  ASSERT_TRUE(states->sweep(forward_order(4), changing_visitor(blocks, 1), kNeverCancelled));
  ASSERT_TRUE(states->drain(-1));
  flip_bytes_of_all_blocks(nlohmann::json::parse(states->describe()).at("path"));
  const auto swept = states->sweep(forward_order(4), changing_visitor(blocks, 2), kNeverCancelled);
  ASSERT_FALSE(swept);
  EXPECT_EQ(swept.error().status, ORLOP_CORRUPT);
  EXPECT_THAT(swept.error().message, HasSubstr("exp_avg_sq"));
}

TEST(TieredStates, BlocksInMemoryAreVisitedWhileTheStoreIsWaitedFor) {
  const auto blocks = equal_blocks(12, 4096);
  std::vector<PlaneSet> resident(12);
  for (std::size_t i = 6; i < 12; ++i) resident[i] = blocks[i].planes;
  TemporaryDirectory directory;
  auto options = options_in(directory);
  auto faults = delay_of(aio::Direction::read, 20);
  options.make_queues = {faulty_queue(faults)};
  const auto states = make_tiered_states(topology(), blocks, resident, options).value();
  faults->arm();
  std::vector<std::uint32_t> visited;
  const auto change = changing_visitor(blocks, 1);
  ASSERT_TRUE(states->sweep(forward_order(12), [&](const Visit& visit) {
    visited.push_back(visit.block);
    return change(visit);
  }, kNeverCancelled));
  ASSERT_EQ(visited.size(), 12u);
  EXPECT_GE(visited.front(), 6u) << "there was nothing else to do before the first read had come";
}

}  // namespace
}  // namespace orlop::swap
