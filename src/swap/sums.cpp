#include "swap/sums.hpp"

#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace orlop::swap {
namespace {

ChunkSums zero_chunk_sums(const BlockSpec& block, std::uint64_t elements) {
  const std::vector<std::byte> zeros(elements * 4);
  ChunkSums sums = {};
  for (const auto plane : kPlanes) {
    if (!block.planes.contains(plane)) continue;
    sums[static_cast<std::size_t>(plane)] = sum_of({zeros.data(), elements * element_bytes(plane)});
  }
  return sums;
}

}  // namespace

std::uint64_t sum_of(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

ChunkSums chunk_sums(const BlockSpec& block, const BlockMemory& memory, std::uint64_t chunk) {
  ChunkSums sums = {};
  for (const auto plane : kPlanes) {
    if (!block.planes.contains(plane)) continue;
    const auto* data = memory.as<const std::byte>(plane) + chunk * kChunkElements * element_bytes(plane);
    sums[static_cast<std::size_t>(plane)] = sum_of({data, chunk_elements(block, chunk) * element_bytes(plane)});
  }
  return sums;
}

void block_sums(const BlockSpec& block, const BlockMemory& memory, std::span<ChunkSums> sums) {
  for (std::uint64_t chunk = 0; chunk < sums.size(); ++chunk) sums[chunk] = chunk_sums(block, memory, chunk);
}

void zero_block_sums(const BlockSpec& block, std::span<ChunkSums> sums) {
  const std::uint64_t last = chunk_count(block) - 1;
  if (last > 0) {
    const ChunkSums full = zero_chunk_sums(block, kChunkElements);
    for (std::uint64_t chunk = 0; chunk < last; ++chunk) sums[chunk] = full;
  }
  sums[last] = zero_chunk_sums(block, chunk_elements(block, last));
}

}  // namespace orlop::swap
