#include "zero3/partition.hpp"

#include <random>

#include <gtest/gtest.h>

#include "base/bytes.hpp"

namespace orlop::zero3 {
namespace {

struct Case {
  std::uint64_t content;
  int world_size;
};

std::vector<Case> cases() {
  std::vector<Case> cases = {{1, 1}, {1, 8}, {kShardGrain, 1}, {kShardGrain, 2}, {kShardGrain + 1, 2}, {100, 512}};
  std::mt19937_64 random(1);
  for (int i = 0; i < 500; ++i) cases.push_back({1 + random() % 10'000'000, static_cast<int>(1 + random() % 64)});
  return cases;
}

TEST(Partition, EveryElementIsOwnedByExactlyOneRank) {
  for (const auto& [content, world_size] : cases()) {
    std::uint64_t next = 0;
    for (int rank = 0; rank < world_size; ++rank) {
      const Range used = used_part(content, rank, world_size);
      if (used.empty()) continue;
      ASSERT_EQ(used.begin, next) << content << " over " << world_size;
      next = used.end;
    }
    ASSERT_EQ(next, align_up(content, kShardGrain)) << content << " over " << world_size;
  }
}

TEST(Partition, ShardsAreEqualAlignedAndInOrder) {
  for (const auto& [content, world_size] : cases()) {
    const std::uint64_t elements = shard_elements(content, world_size);
    ASSERT_TRUE(is_aligned(elements, kShardGrain));
    ASSERT_GE(elements * static_cast<std::uint64_t>(world_size), content);
    for (int rank = 0; rank < world_size; ++rank) {
      const Range shard = shard_of(content, rank, world_size);
      ASSERT_EQ(shard.size(), elements);
      ASSERT_EQ(shard.begin, static_cast<std::uint64_t>(rank) * elements);
    }
  }
}

TEST(Partition, RanksPastTheEndOwnNothing) {
  EXPECT_FALSE(used_part(100, 0, 4).empty());
  for (int rank = 1; rank < 4; ++rank) EXPECT_TRUE(used_part(100, rank, 4).empty()) << rank;
}

TEST(Partition, CutsNeverPartABlockOfTheNorm) {
  for (const auto& [content, world_size] : cases()) {
    ASSERT_TRUE(is_aligned(shard_elements(content, world_size), kReduceElements));
  }
}

TEST(Range, IntersectionIsEmptyWhereRangesDoNotMeet) {
  EXPECT_EQ(intersect({0, 10}, {5, 20}), (Range{5, 10}));
  EXPECT_TRUE(intersect({0, 5}, {5, 10}).empty());
  EXPECT_TRUE(intersect({7, 9}, {1, 2}).empty());
}

}  // namespace
}  // namespace orlop::zero3
