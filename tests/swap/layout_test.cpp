#include "swap/layout.hpp"

#include <random>
#include <set>

#include "support.hpp"

namespace orlop::swap {
namespace {

using testing::kFloat;
using testing::kSplit;
using testing::random_blocks;

struct Interval {
  std::uint64_t begin;
  std::uint64_t end;
};

void expect_disjoint(std::vector<Interval> intervals, std::uint64_t limit) {
  std::sort(intervals.begin(), intervals.end(), [](auto a, auto b) { return a.begin < b.begin; });
  for (std::size_t i = 0; i + 1 < intervals.size(); ++i) EXPECT_LE(intervals[i].end, intervals[i + 1].begin);
  for (const auto& interval : intervals) EXPECT_LE(interval.end, limit);
}

TEST(ExtentLayout, PlanesFollowEachOtherAtMultiplesOf4096WithoutOverlap) {
  std::mt19937_64 random(1);
  for (const auto& block : random_blocks(random, 200)) {
    const auto layout = extent_layout(block);
    std::vector<Interval> planes;
    std::uint64_t sum = 0;
    for (const auto plane : kPlanes) {
      const auto i = static_cast<std::size_t>(plane);
      EXPECT_EQ(layout.bytes[i], block.planes.contains(plane) ? block.elements * element_bytes(plane) : 0);
      EXPECT_TRUE(is_aligned(layout.offset[i], kPlaneAlignment));
      if (layout.bytes[i] > 0) planes.push_back({layout.offset[i], layout.offset[i] + layout.bytes[i]});
      sum += layout.bytes[i];
    }
    expect_disjoint(planes, layout.total_bytes);
    EXPECT_EQ(layout.total_bytes, sum) << "an extent holds nothing but planes";
  }
}

TEST(MemoryLayout, PlanesOfEveryBlockAreAlignedAndDisjoint) {
  std::mt19937_64 random(2);
  for (const std::uint64_t alignment : {1, 4, 512, 1024, 2048, 4096}) {
    const auto blocks = random_blocks(random, 20);
    const MemoryLayout layout(blocks, alignment);
    for (const auto& block : blocks) {
      const auto memory = layout.at(nullptr, block.planes);
      std::vector<Interval> planes;
      for (const auto plane : kPlanes) {
        if (!block.planes.contains(plane)) continue;
        const auto begin = reinterpret_cast<std::uintptr_t>(memory.as<std::byte>(plane));
        EXPECT_TRUE(is_aligned(begin, std::max<std::uint64_t>(alignment, 64)));
        planes.push_back({begin, begin + block.elements * element_bytes(plane)});
      }
      expect_disjoint(planes, layout.bytes());
    }
  }
}

TEST(MemoryLayout, PlanesStartAtDifferentPlacesInAPage) {
  const BlockSpec blocks[] = {{2048, {Plane::lo, Plane::master, Plane::exp_avg, Plane::exp_avg_sq}}};
  for (const std::uint64_t alignment : {1, 512, 1024}) {
    std::set<std::uint64_t> places;
    for (const auto* plane : MemoryLayout(blocks, alignment).at(nullptr, blocks[0].planes).planes) {
      places.insert(reinterpret_cast<std::uintptr_t>(plane) % 4096);
    }
    EXPECT_EQ(places.size(), 4u) << alignment;
  }
}

TEST(MemoryLayout, ConsecutivePlanesAreShiftedBy1024ModuloThePage) {
  const BlockSpec block{16384, kSplit};
  const auto memory = MemoryLayout({&block, 1}, 512).at(nullptr, block.planes);
  EXPECT_EQ((memory.as<std::byte>(Plane::exp_avg) - memory.as<std::byte>(Plane::lo)) % 4096, 1024);
  EXPECT_EQ((memory.as<std::byte>(Plane::exp_avg_sq) - memory.as<std::byte>(Plane::exp_avg)) % 4096, 1024);
}

TEST(MemoryLayout, ADriveThatWantsWholePagesGetsThem) {
  const BlockSpec block{16384, kSplit};
  const auto memory = MemoryLayout({&block, 1}, 4096).at(nullptr, block.planes);
  for (const auto plane : {Plane::lo, Plane::exp_avg, Plane::exp_avg_sq}) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory.as<std::byte>(plane)) % 4096, 0u);
  }
}

TEST(MemoryLayout, ItsSizeDoesNotDependOnTheAlignment) {
  std::mt19937_64 random(3);
  const auto blocks = random_blocks(random, 10);
  for (const std::uint64_t alignment : {1, 512, 2048}) {
    EXPECT_EQ(MemoryLayout(blocks, alignment).bytes(), MemoryLayout(blocks, 4096).bytes());
  }
  EXPECT_TRUE(is_aligned(MemoryLayout(blocks, 1).bytes(), 4096));
}

TEST(MemoryLayout, PlanesThatABlockHasNotAreNull) {
  const BlockSpec blocks[] = {{2048, kSplit}, {2048, kFloat}};
  const auto memory = MemoryLayout(blocks, 1).at(nullptr, kFloat);
  EXPECT_EQ(memory.planes[static_cast<std::size_t>(Plane::lo)], nullptr);
  EXPECT_EQ(memory.planes[static_cast<std::size_t>(Plane::master)], nullptr);
}

}  // namespace
}  // namespace orlop::swap
