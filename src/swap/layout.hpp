// Layout: where the planes of a block lie, in an extent and in memory.
//
// In an extent they follow each other at multiples of 4096 bytes. In memory each is shifted against the one before by a
// sub-page stagger, so that equal indexes of different planes do not alias in the L1 cache (the largest single
// effect on the arithmetic's speed), as far as the drive's memory alignment allows.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "swap/block.hpp"

namespace orlop::swap {

inline constexpr std::uint64_t kPlaneAlignment = 4096;

struct ExtentLayout {
  std::array<std::uint64_t, kPlaneCount> offset = {};
  std::array<std::uint64_t, kPlaneCount> bytes = {};  // 0 for planes the block has not
  std::uint64_t total_bytes = 0;
};
ExtentLayout extent_layout(const BlockSpec& block);

// One layout serves every block of a list: planes start at the same place for all of them. Its size does not depend
// on the alignment.
class MemoryLayout {
 public:
  // `memory_alignment`: what the drive wants of buffers, at most 4096 (1 when no drive is involved).
  MemoryLayout(std::span<const BlockSpec> blocks, std::uint64_t memory_alignment);

  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }  // a multiple of 4096
  // `base` is 4096-aligned.
  [[nodiscard]] BlockMemory at(std::byte* base, PlaneSet planes) const;

 private:
  std::array<std::uint64_t, kPlaneCount> offset_ = {};
  std::uint64_t bytes_ = 0;
};

}  // namespace orlop::swap
