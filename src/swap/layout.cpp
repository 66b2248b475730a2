#include "swap/layout.hpp"

#include <algorithm>

namespace orlop::swap {
namespace {

// Streams that start 1024 bytes apart within a page neither share L1 sets at equal indexes nor trip the 4 KiB
// aliasing of loads behind stores; measured best of the staggers that direct I/O allows.
constexpr std::uint64_t kStaggerBytes = 1024;

constexpr std::size_t index_of(Plane plane) { return static_cast<std::size_t>(plane); }

std::uint64_t plane_bytes(const BlockSpec& block, Plane plane) {
  return block.planes.contains(plane) ? block.elements * element_bytes(plane) : 0;
}

std::uint64_t largest_plane_bytes(std::span<const BlockSpec> blocks, Plane plane) {
  std::uint64_t largest = 0;
  for (const auto& block : blocks) largest = std::max(largest, plane_bytes(block, plane));
  return largest;
}

}  // namespace

ExtentLayout extent_layout(const BlockSpec& block) {
  ExtentLayout layout;
  for (const auto plane : kPlanes) {
    layout.offset[index_of(plane)] = layout.total_bytes;
    layout.bytes[index_of(plane)] = plane_bytes(block, plane);
    layout.total_bytes += align_up(plane_bytes(block, plane), kPlaneAlignment);
  }
  return layout;
}

// Every plane gets a page more than it fills, wherever in that page it starts: the size must be known before the
// drive has been asked for its alignment.
MemoryLayout::MemoryLayout(std::span<const BlockSpec> blocks, std::uint64_t memory_alignment) {
  const std::uint64_t step = std::max(kStaggerBytes, memory_alignment);
  std::uint64_t present = 0;
  for (const auto plane : kPlanes) {
    const std::uint64_t largest = largest_plane_bytes(blocks, plane);
    if (largest == 0) continue;
    offset_[index_of(plane)] = bytes_ + present * step % kPlaneAlignment;
    bytes_ += align_up(largest, kPlaneAlignment) + kPlaneAlignment;
    ++present;
  }
}

BlockMemory MemoryLayout::at(std::byte* base, PlaneSet planes) const {
  BlockMemory memory;
  for (const auto plane : kPlanes) {
    if (planes.contains(plane)) memory.planes[index_of(plane)] = base + offset_[index_of(plane)];
  }
  return memory;
}

}  // namespace orlop::swap
