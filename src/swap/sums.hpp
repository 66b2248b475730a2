// Checksums of chunks: XXH3 (64 bits, seed 0) of each plane.
#pragma once

#include <cstdint>
#include <span>

#include "swap/block.hpp"

namespace orlop::swap {

constexpr std::uint64_t chunk_elements(const BlockSpec& block, std::uint64_t chunk) {
  const std::uint64_t rest = block.elements - chunk * kChunkElements;
  return rest < kChunkElements ? rest : kChunkElements;
}

std::uint64_t sum_of(std::span<const std::byte> bytes);

ChunkSums chunk_sums(const BlockSpec& block, const BlockMemory& memory, std::uint64_t chunk);

// One entry per chunk.
void block_sums(const BlockSpec& block, const BlockMemory& memory, std::span<ChunkSums> sums);

// The same of a block of zeros, without having one.
void zero_block_sums(const BlockSpec& block, std::span<ChunkSums> sums);

}  // namespace orlop::swap
