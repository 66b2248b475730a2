#include "swap/sums.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "support.hpp"
#include "swap/layout.hpp"

namespace orlop::swap {
namespace {

TEST(Sums, AreXxh3OfEachPlaneOfTheChunk) {
  const BlockSpec block{kChunkElements + 2048, testing::kSplit};
  std::vector<std::byte> memory(MemoryLayout({&block, 1}, 1).bytes());
  for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<std::byte>(i * 7 + i / 251);
  const auto planes = MemoryLayout({&block, 1}, 1).at(memory.data(), block.planes);
  const auto sums = chunk_sums(block, planes, 1);
  EXPECT_EQ(sums[0], XXH3_64bits(planes.as<std::byte>(Plane::lo) + 2 * kChunkElements, 2 * 2048));
  EXPECT_EQ(sums[1], 0u) << "no master plane";
  EXPECT_EQ(sums[2], XXH3_64bits(planes.as<std::byte>(Plane::exp_avg) + 4 * kChunkElements, 4 * 2048));
  EXPECT_EQ(sums[3], XXH3_64bits(planes.as<std::byte>(Plane::exp_avg_sq) + 4 * kChunkElements, 4 * 2048));
}

TEST(Sums, OfZerosAreThoseOfABlockOfZeros) {
  for (const std::uint64_t elements : {std::uint64_t{2048}, kChunkElements, 3 * kChunkElements + 4096}) {
    const BlockSpec block{elements, testing::kSeparate};
    const MemoryLayout layout({&block, 1}, 1);
    std::vector<std::byte> memory(layout.bytes());
    std::vector<ChunkSums> found(chunk_count(block));
    std::vector<ChunkSums> expected(chunk_count(block));
    block_sums(block, layout.at(memory.data(), block.planes), expected);
    zero_block_sums(block, found);
    EXPECT_EQ(found, expected);
  }
}

}  // namespace
}  // namespace orlop::swap
