#include "zero3/partition.hpp"

#include "base/bytes.hpp"

namespace orlop::zero3 {

std::uint64_t shard_elements(std::uint64_t content, int world_size) {
  return align_up(divide_up(content, static_cast<std::uint64_t>(world_size)), kShardGrain);
}

Range shard_of(std::uint64_t content, int rank, int world_size) {
  const std::uint64_t elements = shard_elements(content, world_size);
  const auto index = static_cast<std::uint64_t>(rank);
  return {index * elements, (index + 1) * elements};
}

Range used_part(std::uint64_t content, int rank, int world_size) {
  return intersect(shard_of(content, rank, world_size), {0, align_up(content, kShardGrain)});
}

}  // namespace orlop::zero3
