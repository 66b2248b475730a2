#include "swap/store.hpp"

#include <set>

#include <gmock/gmock.h>

#include "support.hpp"
#include "swap/drive_shares.hpp"
#include "swap/store_header.hpp"

namespace orlop::swap {
namespace {

using namespace testing;
using ::testing::HasSubstr;

// Its files are 0.store, 1.store ...
StoreOptions options_of(const TemporaryDirectory& directory, std::vector<BlockSpec> blocks, unsigned writes,
                        std::vector<double> shares = {1}) {
  StoreOptions options;
  for (std::size_t drive = 0; drive < shares.size(); ++drive) {
    options.paths.push_back(fmt::format("{}/{}.store", directory.path(), drive));
  }
  options.identity = StoreIdentity::create("run", 0);
  options.blocks = std::move(blocks);
  options.writes_at_once = writes;
  options.shares = std::move(shares);
  return options;
}

std::unique_ptr<Store> store_in(const TemporaryDirectory& directory, std::vector<BlockSpec> blocks, unsigned writes = 3,
                                std::vector<double> shares = {1}) {
  auto store = Store::create(options_of(directory, std::move(blocks), writes, std::move(shares))).value();
  EXPECT_TRUE(store->write_headers());
  return store;
}

std::uint64_t grain_count(const Store& store) {
  std::uint64_t grains = 0;
  for (std::size_t drive = 0; drive < store.drive_count(); ++drive) grains += store.file(drive).space().grain_count();
  return grains;
}

// Of all blocks together, on one drive.
std::uint64_t grains_on(const Store& store, std::uint32_t drive) {
  std::uint64_t grains = 0;
  for (std::uint32_t block = 0; block < store.blocks().size(); ++block) {
    for (const GrainRun& run : store.extent_of(block).runs) grains += run.drive == drive ? run.grain_count : 0;
  }
  return grains;
}

// Of up to three drives, some of them much slower than others.
std::vector<double> random_shares(std::mt19937_64& random, std::size_t drives = 0) {
  std::vector<double> rates(drives == 0 ? 1 + random() % 3 : drives);
  for (double& rate : rates) rate = 1.0 / static_cast<double>(1 + random() % 9);
  return shares_of(rates);
}

// Every grain has one owner at most, and all are accounted for.
std::string ownership_of(const Store& store, const std::vector<Extent>& being_written) {
  std::set<std::pair<std::uint32_t, std::uint32_t>> owned;
  const auto own = [&](const Extent& extent) {
    for (const auto& run : extent.runs) {
      for (std::uint32_t i = 0; i < run.grain_count; ++i) {
        if (!owned.insert({run.drive, run.first_grain + i}).second) return false;
        if (store.file(run.drive).space().is_free(run.first_grain + i)) return false;
      }
    }
    return true;
  };
  for (std::uint32_t block = 0; block < store.blocks().size(); ++block) {
    if (!own(store.extent_of(block))) return fmt::format("a grain of block {} is free or has two owners", block);
  }
  for (const auto& extent : being_written) {
    if (!own(extent)) return "a grain of a write under way is free or has two owners";
  }
  return owned.size() + store.free_grains() == grain_count(store) ? "" : "grains were lost";
}

TEST(Store, NeverGivesAGrainTwoOwnersNorLosesOne) {
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    std::mt19937_64 random(seed);
    TemporaryDirectory directory;
    const unsigned writes_at_once = 1 + static_cast<unsigned>(random() % 5);
    const auto store = store_in(directory, random_blocks(random, 10), writes_at_once, random_shares(random));
    std::vector<std::pair<std::uint32_t, Extent>> open;
    for (int i = 0; i < 400; ++i) {
      if (random() % 50 == 0) store->set_shares(random_shares(random, store->drive_count()));
      const auto block = static_cast<std::uint32_t>(random() % 10);
      const auto of_block = [&](const auto& write) { return write.first == block; };
      if (open.size() < writes_at_once && std::none_of(open.begin(), open.end(), of_block)) {
        const auto extent = store->begin_write(block);
        ASSERT_TRUE(extent) << "room for " << writes_at_once << " writes is there by design; seed " << seed;
        open.emplace_back(block, *extent);
      } else if (!open.empty()) {
        const auto [written, extent] = open[random() % open.size()];
        const auto generation = store->generation_of(written);
        const std::vector<ChunkSums> sums(chunk_count(store->blocks()[written]), ChunkSums{random(), 1, 2, 3});
        if (random() % 4 == 0) {
          store->abandon_write(extent);
          EXPECT_EQ(store->generation_of(written), generation);
        } else {
          store->confirm_write(written, extent, sums);
          EXPECT_EQ(store->generation_of(written), generation + 1);
          EXPECT_EQ(store->sums_of(written)[0], sums[0]);
        }
        std::erase_if(open, [&, done = written](const auto& write) { return write.first == done; });
      }
      std::vector<Extent> being_written;
      for (const auto& [unused, extent] : open) being_written.push_back(extent);
      ASSERT_EQ(ownership_of(*store, being_written), "") << "seed " << seed;
    }
  }
}

TEST(Store, PiecesCoverEveryPlaneOnceAndStayInTheExtent) {
  TemporaryDirectory directory;
  std::mt19937_64 random(5);
  const auto store = store_in(directory, random_blocks(random, 6), 3, {0.5, 0.5});
  // Scattered on purpose.
  const Extent scattered{{{1, 1}, {5, 2}, {9, 1}, {20, 40}}};
  const Extent striped = {{{1, 1, 0}, {1, 2, 1}, {9, 1, 0}, {20, 40, 1}}};
  for (std::uint32_t block = 0; block < store->blocks().size(); ++block) {
    const auto& spec = store->blocks()[block];
    const MemoryLayout layout({&spec, 1}, 512);
    std::vector<std::byte> memory(layout.bytes());
    const auto& own = store->extent_of(block);
    const auto last = Store::place_of(own, extent_layout(spec).total_bytes - 1);
    EXPECT_LE(last.offset, store->file(last.drive).bytes());
    for (const auto& extent : {own, scattered, striped}) {
      std::set<std::pair<const aio::File*, std::uint64_t>> file_pages;
      std::set<std::byte*> memory_pages;
      std::uint64_t bytes = 0;
      for (const auto& piece : store->pieces(block, extent, layout.at(memory.data(), spec.planes))) {
        EXPECT_TRUE(is_aligned(piece.offset, 4096) && is_aligned(piece.bytes, 4096));
        for (std::uint64_t at = 0; at < piece.bytes; at += 4096) {
          EXPECT_TRUE(file_pages.insert({piece.file, piece.offset + at}).second);
          EXPECT_TRUE(memory_pages.insert(piece.memory + at).second);
        }
        bytes += piece.bytes;
      }
      EXPECT_EQ(bytes, spec.elements * spec.planes.bytes_per_element());
      for (const auto& [file, offset] : file_pages) EXPECT_GE(offset, kGrainBytes) << "behind the header";
    }
  }
}

TEST(Store, PlacesGoThroughTheRunsOfAnExtent) {
  const Extent extent{{{3, 1, 0}, {10, 2, 1}}};
  const auto at = [&](std::uint64_t offset) { return Store::place_of(extent, offset); };
  EXPECT_EQ(at(0), (Store::Place{0, 4 * kGrainBytes}));
  EXPECT_EQ(at(kGrainBytes - 1), (Store::Place{0, 5 * kGrainBytes - 1}));
  EXPECT_EQ(at(kGrainBytes), (Store::Place{1, 11 * kGrainBytes}));
  EXPECT_EQ(at(2 * kGrainBytes + 7), (Store::Place{1, 12 * kGrainBytes + 7}));
}

TEST(Store, RecordsTheSumsOfZerosAtFirst) {
  TemporaryDirectory directory;
  const auto blocks = equal_blocks(2, kChunkElements + 2048);
  const auto store = store_in(directory, blocks);
  std::vector<ChunkSums> zeros(chunk_count(blocks[1]));
  zero_block_sums(blocks[1], zeros);
  EXPECT_TRUE(store->verify(1, zeros));
  zeros[1][static_cast<std::size_t>(Plane::exp_avg_sq)] ^= 1;
  const auto verified = store->verify(1, zeros);
  ASSERT_FALSE(verified);
  EXPECT_EQ(verified.error().status, ORLOP_CORRUPT);
  EXPECT_THAT(verified.error().message,
              AllOf(HasSubstr("block 1"), HasSubstr("plane exp_avg_sq"), HasSubstr("chunk 1"), HasSubstr("generation 0")));
}

TEST(Store, IsSureOfItsIdentity) {
  TemporaryDirectory directory;
  const auto store = store_in(directory, equal_blocks(2, 2048));
  EXPECT_TRUE(store->check_identity());
  EXPECT_EQ(fs::file_size(directory / "0.store"), store->file_bytes());
}

TEST(Store, NoticesThatTheFilesOfTwoDrivesChangedPlaces) {
  TemporaryDirectory directory;
  const auto store = store_in(directory, equal_blocks(8, kChunkElements), 3, {0.5, 0.5});
  ASSERT_TRUE(store->check_identity());
  fs::rename(directory / "0.store", directory / "other");
  fs::rename(directory / "1.store", directory / "0.store");
  fs::rename(directory / "other", directory / "1.store");
  const auto checked = store->check_identity();
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().status, ORLOP_CORRUPT);
  EXPECT_THAT(checked.error().message, AllOf(HasSubstr("0.store"), HasSubstr("it is the part of drive 1, not of drive 0")));
}

TEST(Store, IsNotCreatedOverAFileThatIsThere) {
  TemporaryDirectory directory;
  const auto store = store_in(directory, equal_blocks(2, 2048));
  EXPECT_FALSE(Store::create(options_of(directory, equal_blocks(2, 2048), 3)));
}

// ---- Several drives

TEST(Store, GivesEachDriveItsShareOfTheRoomAndOfTheBlocks) {
  TemporaryDirectory directory;
  const auto blocks = equal_blocks(40, 20 * kChunkElements);  // 13 grains each
  const auto store = store_in(directory, blocks, 3, {0.75, 0.25});
  const StoreSize size = store_size(blocks, 3, 2);
  EXPECT_EQ(store->file_bytes(), size.file_bytes);
  EXPECT_EQ(fs::file_size(directory / "0.store") + fs::file_size(directory / "1.store"), size.file_bytes);
  EXPECT_EQ(grain_count(*store), size.grain_count);
  EXPECT_NEAR(static_cast<double>(grains_on(*store, 0)), 40 * 13 * 0.75, 2 * kStripeGrains);
  EXPECT_NEAR(static_cast<double>(store->file(1).space().grain_count()), static_cast<double>(size.grain_count) * 0.25, 1);
}

TEST(Store, FollowsNewSharesWithEveryWriteAndMakesFilesLonger) {
  TemporaryDirectory directory;
  const auto blocks = equal_blocks(40, 20 * kChunkElements);
  const auto store = store_in(directory, blocks, 3, {0.5, 0.5});
  const std::uint64_t before = store->file(0).bytes();
  store->set_shares({0.8, 0.2});
  EXPECT_NEAR(static_cast<double>(store->file(0).space().grain_count()), static_cast<double>(store_size(blocks, 3).grain_count) * 0.8, 1);
  EXPECT_GT(store->file(0).bytes(), before);
  EXPECT_EQ(grains_on(*store, 0), 40u * 13 / 2) << "nothing is copied";
  for (std::uint32_t block = 0; block < blocks.size(); ++block) {
    store->confirm_write(block, store->begin_write(block).value(), std::vector<ChunkSums>(chunk_count(blocks[block])));
  }
  EXPECT_NEAR(static_cast<double>(grains_on(*store, 0)), 40 * 13 * 0.8, 2 * kStripeGrains);
  EXPECT_TRUE(store->check_identity()) << "the header knows the new length";
  const std::uint64_t longest = store->file_bytes();
  for (int i = 0; i < 5; ++i) store->set_shares({0.8, 0.2});
  EXPECT_EQ(store->file_bytes(), longest);
}

TEST(Store, WhatADriveHasNoRoomForGoesToTheOthers) {
  TemporaryDirectory directory;
  const auto blocks = equal_blocks(12, 20 * kChunkElements);
  auto options = options_of(directory, blocks, 3, {0.5, 0.5});
  options.limit_bytes = store_size(blocks, 3, 2).file_bytes;
  const auto store = Store::create(std::move(options)).value();
  store->set_shares({1 - kLeastShare, kLeastShare});
  EXPECT_EQ(store->file_bytes(), store_size(blocks, 3, 2).file_bytes) << "the limit holds";
  for (std::uint32_t round = 0; round < 3; ++round) {
    for (std::uint32_t block = 0; block < blocks.size(); ++block) {
      const auto extent = store->begin_write(block);
      ASSERT_TRUE(extent) << extent.error().message;
      store->confirm_write(block, *extent, std::vector<ChunkSums>(chunk_count(blocks[block])));
    }
  }
  EXPECT_LE(store->file(0).space().free_grains(), 13u) << "but for what the last block was in before";
  EXPECT_EQ(ownership_of(*store, {}), "");
}

TEST(Store, MakesRoomOnAllDrivesByTheirShares) {
  TemporaryDirectory directory;
  const auto store = store_in(directory, equal_blocks(12, 20 * kChunkElements), 3, {0.75, 0.25});
  const std::uint64_t first = store->file(0).space().grain_count();
  const std::uint64_t second = store->file(1).space().grain_count();
  ASSERT_TRUE(store->make_room(store->free_grains() + 100));
  EXPECT_EQ(store->file(0).space().grain_count(), first + 75);
  EXPECT_EQ(store->file(1).space().grain_count(), second + 25);
  EXPECT_EQ(ownership_of(*store, {}), "");
}

TEST(StoreHeader, IsValidOnlyUnchanged) {
  const auto header = StoreHeader::of({"a-run", "uuid", 3, 0}, 12345);
  EXPECT_TRUE(header.is_valid());
  EXPECT_EQ(header.run(), "a-run");
  EXPECT_EQ(header.opening(), "uuid");
  for (std::size_t byte = 0; byte < sizeof header; ++byte) {
    auto changed = header;
    reinterpret_cast<unsigned char*>(&changed)[byte] ^= 4;
    ASSERT_FALSE(changed.is_valid()) << byte;
  }
  EXPECT_FALSE(StoreHeader().is_valid());
}

}  // namespace
}  // namespace orlop::swap
