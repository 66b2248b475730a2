#include "swap/store.hpp"

#include <set>

#include <gmock/gmock.h>

#include "support.hpp"
#include "swap/store_header.hpp"

namespace orlop::swap {
namespace {

using namespace testing;
using ::testing::HasSubstr;

std::unique_ptr<Store> store_in(const TemporaryDirectory& directory, std::vector<BlockSpec> blocks, unsigned writes = 3) {
  auto store = Store::create(directory / "rank0.store", StoreIdentity::create("run", 0), std::move(blocks), writes).value();
  EXPECT_TRUE(store->write_header());
  return store;
}

// Every grain has one owner at most, and all are accounted for.
std::string ownership_of(const Store& store, const std::vector<Extent>& being_written) {
  std::set<std::uint32_t> owned;
  const auto own = [&](const Extent& extent) {
    for (const auto& run : extent.runs) {
      for (std::uint32_t i = 0; i < run.grain_count; ++i) {
        if (!owned.insert(run.first_grain + i).second) return false;
        if (store.space().is_free(run.first_grain + i)) return false;
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
  return owned.size() + store.space().free_grains() == store.space().grain_count() ? "" : "grains were lost";
}

TEST(Store, NeverGivesAGrainTwoOwnersNorLosesOne) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    std::mt19937_64 random(seed);
    TemporaryDirectory directory;
    const unsigned writes_at_once = 1 + static_cast<unsigned>(random() % 5);
    const auto store = store_in(directory, random_blocks(random, 10), writes_at_once);
    std::vector<std::pair<std::uint32_t, Extent>> open;
    for (int i = 0; i < 400; ++i) {
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
  const auto store = store_in(directory, random_blocks(random, 6));
  // Scattered on purpose.
  const Extent scattered{{{1, 1}, {5, 2}, {9, 1}, {20, 40}}};
  for (std::uint32_t block = 0; block < store->blocks().size(); ++block) {
    const auto& spec = store->blocks()[block];
    const MemoryLayout layout({&spec, 1}, 512);
    std::vector<std::byte> memory(layout.bytes());
    const auto& own = store->extent_of(block);
    EXPECT_LE(Store::file_offset(own, extent_layout(spec).total_bytes - 1), store->file_bytes());
    for (const auto& extent : {own, scattered}) {
      std::set<std::uint64_t> file_pages;
      std::set<std::byte*> memory_pages;
      std::uint64_t bytes = 0;
      for (const auto& piece : store->pieces(block, extent, layout.at(memory.data(), spec.planes))) {
        EXPECT_TRUE(is_aligned(piece.offset, 4096) && is_aligned(piece.bytes, 4096));
        for (std::uint64_t at = 0; at < piece.bytes; at += 4096) {
          EXPECT_TRUE(file_pages.insert(piece.offset + at).second);
          EXPECT_TRUE(memory_pages.insert(piece.memory + at).second);
        }
        bytes += piece.bytes;
      }
      EXPECT_EQ(bytes, spec.elements * spec.planes.bytes_per_element());
      EXPECT_TRUE(*file_pages.begin() >= kGrainBytes) << "behind the header";
    }
  }
}

TEST(Store, FileOffsetsGoThroughTheRunsOfAnExtent) {
  const Extent extent{{{3, 1}, {10, 2}}};
  EXPECT_EQ(Store::file_offset(extent, 0), 4 * kGrainBytes);
  EXPECT_EQ(Store::file_offset(extent, kGrainBytes - 1), 5 * kGrainBytes - 1);
  EXPECT_EQ(Store::file_offset(extent, kGrainBytes), 11 * kGrainBytes);
  EXPECT_EQ(Store::file_offset(extent, 2 * kGrainBytes + 7), 12 * kGrainBytes + 7);
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
  EXPECT_EQ(fs::file_size(directory / "rank0.store"), store->file_bytes());
}

TEST(Store, IsNotCreatedOverAFileThatIsThere) {
  TemporaryDirectory directory;
  const auto store = store_in(directory, equal_blocks(2, 2048));
  EXPECT_FALSE(Store::create(directory / "rank0.store", StoreIdentity::create("run", 0), equal_blocks(2, 2048), 3));
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
