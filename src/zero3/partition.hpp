// Partition: which contiguous part of a unit's flat buffer a rank owns.
#pragma once

#include <cstdint>

namespace orlop::zero3 {

// Parameters start at multiples of this, so that the blocks over which squares are summed never span two of them
// and results depend on neither the order of gradients nor the number of ranks.
inline constexpr std::uint64_t kReduceElements = 1024;

// Shards are cut at multiples of this, so that every plane of a shard is a multiple of 4096 bytes.
inline constexpr std::uint64_t kShardGrain = 2048;

struct Range {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  [[nodiscard]] constexpr std::uint64_t size() const { return end - begin; }
  [[nodiscard]] constexpr bool empty() const { return begin == end; }
  friend constexpr bool operator==(Range, Range) = default;
};

constexpr Range intersect(Range a, Range b) {
  const std::uint64_t begin = a.begin > b.begin ? a.begin : b.begin;
  const std::uint64_t end = a.end < b.end ? a.end : b.end;
  return begin < end ? Range{begin, end} : Range{begin, begin};
}

// Elements of every rank's shard of a unit with `content` elements: equal for all ranks, so that one all-gather
// restores the unit without unpacking.
std::uint64_t shard_elements(std::uint64_t content, int world_size);

// The part of the unit that `rank` owns, padding included: [rank * shard_elements, (rank + 1) * shard_elements).
Range shard_of(std::uint64_t content, int rank, int world_size);

// The part of a shard that holds content, rounded up to whole grains; empty for ranks past the end.
Range used_part(std::uint64_t content, int rank, int world_size);

}  // namespace orlop::zero3
