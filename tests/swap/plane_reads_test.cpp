#include "swap/plane_reads.hpp"

#include <fstream>

#include <gmock/gmock.h>

#include "faulty.hpp"
#include "support.hpp"

namespace orlop::swap {
namespace {

using namespace testing;
using ::testing::HasSubstr;

std::vector<BlockSpec> stored_blocks(std::size_t count) {
  std::vector<BlockSpec> blocks(count, BlockSpec{6 * 2048, kStored});
  blocks.back().elements = kChunkElements + 2048;
  return blocks;
}

struct Stored {
  explicit Stored(unsigned plane_slabs, std::shared_ptr<Faults> faults = nullptr)
      : blocks(stored_blocks(9)), order(forward_order(blocks.size())) {
    auto options = options_in(directory);
    options.queue = aio::QueueKind::threads;
    options.plane_slab_count = plane_slabs;
    options.overrides = {16 * 1024, 8};
    if (faults != nullptr) options.make_queues = {faulty_queue(faults)};
    auto made = make_nvme_states(topology(), blocks, options);
    EXPECT_TRUE(made) << made.error().message;
    states = std::move(*made);
  }
  void sweep(std::uint32_t salt) {
    ASSERT_TRUE(states->sweep(order, changing_visitor(blocks, salt), kNeverCancelled));
  }
  [[nodiscard]] std::vector<Wanted> wanted() const {
    std::vector<Wanted> all;
    for (const std::uint32_t block : order) all.push_back({block, Plane::param});
    return all;
  }
  Result<std::vector<std::byte>> read(std::uint32_t block) {
    std::vector<std::byte> bytes;
    TRY(states->read_plane({block, Plane::param}, [&](const PlaneView& view) {
      bytes.assign(view.memory, view.memory + view.bytes);
      for (std::size_t chunk = 0; chunk < view.read.size(); ++chunk) view.sum_chunk(chunk);
    }));
    return bytes;
  }
  // What a whole block says of the same plane.
  std::vector<std::byte> expected(std::uint32_t block) {
    std::vector<std::byte> bytes;
    EXPECT_TRUE(states->access(block, Change::none, [&](const BlockMemory& memory) -> Result<> {
      const auto* const plane = memory.as<const std::byte>(Plane::param);
      bytes.assign(plane, plane + blocks[block].elements * 2);
      return {};
    }));
    return bytes;
  }
  void expect_all() {
    for (const std::uint32_t block : order) EXPECT_EQ(read(block).value(), expected(block)) << block;
  }

  TemporaryDirectory directory;
  std::vector<BlockSpec> blocks;
  std::vector<std::uint32_t> order;
  std::unique_ptr<States> states;
};

TEST(PlaneReads, GiveWhatTheLastSweepWroteWhetherReadAheadOrNot) {
  for (const unsigned slabs : {kMinimumPlaneSlabs, 5u, 20u}) {
    Stored store(slabs, delay_of(aio::Direction::write, 3));
    for (std::uint32_t salt = 1; salt <= 3; ++salt) {
      ASSERT_TRUE(store.states->read_ahead(store.wanted())) << "stale once the sweep has been there";
      store.sweep(salt);
      if (salt != 2) {
        ASSERT_TRUE(store.states->read_ahead(store.wanted()));
      }
      store.expect_all();
    }
  }
}

TEST(PlaneReads, MoveOnlyThePlaneThatIsAskedForAndWhatWasReadAheadOnce) {
  Stored store(20);
  store.sweep(1);
  ASSERT_TRUE(store.states->drain(-1));
  const auto before = store.states->traffic();
  ASSERT_TRUE(store.states->read_ahead(store.wanted()));
  ASSERT_TRUE(store.states->read_ahead(store.wanted()));
  std::uint64_t bytes = 0;
  for (const std::uint32_t block : store.order) bytes += store.read(block).value().size();
  EXPECT_EQ(store.states->traffic().read_bytes - before.read_bytes, bytes);
}

TEST(PlaneReads, ServeWhatWasNotExpected) {
  Stored store(3);
  store.sweep(1);
  ASSERT_TRUE(store.states->read_ahead(store.wanted()));
  for (const std::uint32_t block : {8u, 3u, 3u, 0u, 7u}) EXPECT_EQ(store.read(block).value(), store.expected(block));
  const std::vector<Wanted> others = {{5, Plane::param}, {4, Plane::param}};
  ASSERT_TRUE(store.states->read_ahead(others));
  EXPECT_EQ(store.read(4).value(), store.expected(4));
}

TEST(PlaneReads, KeepWhatWasReadAheadWhenSomethingComesInBetween) {
  Stored store(20);
  store.sweep(1);
  ASSERT_TRUE(store.states->drain(-1));
  const auto before = store.states->traffic();
  std::vector<Wanted> wanted = {{3, Plane::param}, {4, Plane::param}, {5, Plane::param}};
  ASSERT_TRUE(store.states->read_ahead(wanted));
  wanted.insert(wanted.begin(), {8, Plane::param});
  ASSERT_TRUE(store.states->read_ahead(wanted));
  std::uint64_t bytes = 0;
  for (const Wanted& next : wanted) bytes += store.read(next.block).value().size();
  EXPECT_EQ(store.states->traffic().read_bytes - before.read_bytes, bytes);
}

TEST(PlaneReads, FollowWhatIsChangedOutsideASweep) {
  Stored store(4);
  store.sweep(1);
  ASSERT_TRUE(store.states->read_ahead(store.wanted()));
  ASSERT_TRUE(store.states->access(1, Change::modified, [&](const BlockMemory& memory) -> Result<> {
    std::memset(memory.as<std::byte>(Plane::param), 7, 100);
    return {};
  }));
  EXPECT_EQ(store.read(1).value()[99], std::byte{7});
  store.expect_all();
}

TEST(PlaneReads, FindAFlippedByteAndStopTheStore) {
  Stored store(4);
  store.sweep(1);
  ASSERT_TRUE(store.states->drain(-1));
  const std::string path = store.directory.path() + "/orlop/test/rank0.store";
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  for (std::uintmax_t at = kGrainBytes; at < fs::file_size(path); at += 4096) {
    file.seekg(static_cast<std::streamoff>(at));
    const auto byte = static_cast<char>(file.get() ^ 1);
    file.seekp(static_cast<std::streamoff>(at));
    file.put(byte);
  }
  file.close();
  const auto read = store.read(2);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().status, ORLOP_CORRUPT);
  EXPECT_THAT(read.error().message, HasSubstr("block 2, plane param"));
  EXPECT_FALSE(store.states->prefetch(store.order)) << "nothing goes on with it";
}

TEST(PlaneReads, NeedStagingMemoryOfTheirOwn) {
  Stored store(0);
  ASSERT_TRUE(store.states->read_ahead(store.wanted()));
  EXPECT_EQ(store.read(0).error().status, ORLOP_INTERNAL);
}

}  // namespace
}  // namespace orlop::swap
